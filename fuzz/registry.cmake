cooper_fuzzer(reference reference.cpp cooper_oci)
cooper_fuzzer(image_json image_json.cpp cooper_oci)
cooper_fuzzer(auth_challenge auth_challenge.cpp cooper_registry)
cooper_fuzzer(git_url git_url.cpp cooper_source)
