add_executable(fuzz_llb_load llb_load.cpp)
target_link_libraries(fuzz_llb_load PRIVATE cooper_llb)
target_link_options(fuzz_llb_load PRIVATE -fsanitize=fuzzer)
