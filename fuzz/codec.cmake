cooper_fuzzer(tar_apply tar_apply.cpp cooper_layer)
cooper_fuzzer(decompress decompress.cpp cooper_codec)
cooper_fuzzer(pattern_matcher pattern_matcher.cpp cooper_codec)
