// libcurl as a table of its functions, loaded on first use. <curl/curl.h> gives types and constants
// only; nothing links to the library.
#pragma once

#include "base/result.hpp"

#include <curl/curl.h>

namespace cooper::http::detail {

struct CurlLibrary {
    decltype(&::curl_global_init) global_init;
    CURL* (*easy_init)();
    CURLcode (*easy_setopt)(CURL*, CURLoption, ...);
    CURLcode (*easy_getinfo)(CURL*, CURLINFO, ...);
    void (*easy_cleanup)(CURL*);
    void (*easy_reset)(CURL*);
    CURLcode (*easy_pause)(CURL*, int);
    const char* (*easy_strerror)(CURLcode);
    curl_slist* (*slist_append)(curl_slist*, const char*);
    void (*slist_free_all)(curl_slist*);
    CURLM* (*multi_init)();
    CURLMcode (*multi_cleanup)(CURLM*);
    CURLMcode (*multi_add_handle)(CURLM*, CURL*);
    CURLMcode (*multi_remove_handle)(CURLM*, CURL*);
    CURLMcode (*multi_perform)(CURLM*, int*);
    CURLMcode (*multi_poll)(CURLM*, curl_waitfd*, unsigned int, int, int*);
    CURLMcode (*multi_wakeup)(CURLM*);
    CURLMsg* (*multi_info_read)(CURLM*, int*);
};

// Loaded once per process and never unloaded; the same answer to every caller. Any thread.
[[nodiscard]] Result<const CurlLibrary*> curl_library();

}  // namespace cooper::http::detail
