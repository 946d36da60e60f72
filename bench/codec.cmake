if(TARGET cooper_layer AND TARGET cooper_codec)
    add_executable(codec_bench ${CMAKE_CURRENT_LIST_DIR}/codec_bench.cpp)
    target_link_libraries(codec_bench PRIVATE cooper_layer cooper_codec cooper_sys fmt::fmt)
endif()
