if(TARGET cooper_daemon)
    add_executable(session_bench ${CMAKE_CURRENT_LIST_DIR}/session_bench.cpp)
    target_link_libraries(session_bench PRIVATE cooper_daemon cooper_warnings)
endif()
