ENVIRONMENT = {"VERL_PLATFORM": "cpu", "VERL_ENGINE_DEVICE": "cuda", "VERL_USE_EXTERNAL_MODULES": "tests.verl.cpu"}
# of a machine that others use as well: Ray starts no workers ahead, kills none for want of memory, and waits for slow ones
ENVIRONMENT |= {
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_memory_monitor_refresh_ms": "0",
}
ENVIRONMENT |= {"RAY_worker_register_timeout_seconds": "600", "RAY_agent_register_timeout_ms": "600000"}
"""Of a verl without GPUs; tests.verl.cpu says what of it."""
