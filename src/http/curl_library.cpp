#include "http/detail/curl_library.hpp"

#include <dlfcn.h>

namespace cooper::http::detail {
namespace {

struct Loaded {
    CurlLibrary library{};
    std::string problem;  // empty = usable
};

template <class F>
void bind(void* handle, const char* name, F& function, std::string& problem) {
    function = reinterpret_cast<F>(dlsym(handle, name));
    if (!function && problem.empty()) problem = std::string("it has no function ") + name;
}

Loaded load() {
    Loaded loaded;
    void* handle = nullptr;
    for (const char* name : {"libcurl.so.4", "libcurl-gnutls.so.4"}) {
        handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (handle) break;
    }
    if (!handle) {
        loaded.problem = "it is not installed";
        return loaded;
    }
    CurlLibrary& curl = loaded.library;
    std::string& problem = loaded.problem;
    bind(handle, "curl_global_init", curl.global_init, problem);
    bind(handle, "curl_easy_init", curl.easy_init, problem);
    bind(handle, "curl_easy_setopt", curl.easy_setopt, problem);
    bind(handle, "curl_easy_getinfo", curl.easy_getinfo, problem);
    bind(handle, "curl_easy_cleanup", curl.easy_cleanup, problem);
    bind(handle, "curl_easy_reset", curl.easy_reset, problem);
    bind(handle, "curl_easy_pause", curl.easy_pause, problem);
    bind(handle, "curl_easy_strerror", curl.easy_strerror, problem);
    bind(handle, "curl_slist_append", curl.slist_append, problem);
    bind(handle, "curl_slist_free_all", curl.slist_free_all, problem);
    bind(handle, "curl_multi_init", curl.multi_init, problem);
    bind(handle, "curl_multi_cleanup", curl.multi_cleanup, problem);
    bind(handle, "curl_multi_add_handle", curl.multi_add_handle, problem);
    bind(handle, "curl_multi_remove_handle", curl.multi_remove_handle, problem);
    bind(handle, "curl_multi_perform", curl.multi_perform, problem);
    bind(handle, "curl_multi_poll", curl.multi_poll, problem);
    bind(handle, "curl_multi_wakeup", curl.multi_wakeup, problem);
    bind(handle, "curl_multi_info_read", curl.multi_info_read, problem);
    if (problem.empty() && curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) problem = "it does not start";
    return loaded;
}

}  // namespace

Result<const CurlLibrary*> curl_library() {
    static const Loaded loaded = load();
    if (!loaded.problem.empty()) {
        return fail(Code::failed_precondition, Blame::world, "libcurl is needed for the network, but {}",
                    loaded.problem)
            .with_hint("install libcurl 7.68 or later (on Debian: apt install libcurl4)");
    }
    return &loaded.library;
}

}  // namespace cooper::http::detail
