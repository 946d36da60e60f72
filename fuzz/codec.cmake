cooper_fuzzer(tar_apply tar_apply.cpp cooper_layer)
cooper_fuzzer(decompress decompress.cpp cooper_codec)
