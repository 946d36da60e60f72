if(TARGET cooper_filesync)
    add_executable(filesync_bench ${CMAKE_CURRENT_LIST_DIR}/filesync_bench.cpp)
    target_link_libraries(filesync_bench PRIVATE cooper_filesync cooper_warnings)
endif()
