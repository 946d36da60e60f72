if(TARGET cooper_source)
    add_executable(copy_bench ${CMAKE_CURRENT_LIST_DIR}/copy_bench.cpp)
    target_link_libraries(copy_bench PRIVATE cooper_source cooper_warnings)
endif()
