"""Who makes the answers: our own engine (model/engine_thread.py), llama.cpp, or a server at an address."""
