cooper_fuzzer(error_details error_details.cpp cooper_rpc)
