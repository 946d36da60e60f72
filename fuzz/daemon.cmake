cooper_fuzzer(gateway gateway.cpp cooper_daemon)
