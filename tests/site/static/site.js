// What readers by keyboard and by ear need, and the theme leaves out.
document.addEventListener("DOMContentLoaded", () => {
  for (const caption of document.querySelectorAll(".sidebar-drawer .caption[role=heading]")) caption.setAttribute("aria-level", "2");
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "Pages");
  const wide = () => {
    for (const box of document.querySelectorAll(".table-wrapper, .highlight pre"))
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; // arrow keys scroll what has the focus
  };
  wide();
  addEventListener("resize", wide);
});
