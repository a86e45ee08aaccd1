//! llama.cpp and ggml behind safe calls.
