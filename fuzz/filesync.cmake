if(TARGET cooper_filesync)
    cooper_fuzzer(filesync ${CMAKE_CURRENT_LIST_DIR}/filesync.cpp cooper_filesync)
endif()
