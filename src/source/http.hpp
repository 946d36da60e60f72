// Files from http and https URLs as sources: one layer with one file.
//
// What a URL gave is remembered with its ETag and Last-Modified; a later build asks whether it changed,
// and with a checksum asks nobody. Any thread.
#pragma once

#include "base/progress.hpp"
#include "base/stop.hpp"
#include "http/client.hpp"
#include "session/session.hpp"
#include "store/store.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace cooper::source {

struct HttpRequest {
    std::string url;
    std::optional<Digest> checksum;
    std::string filename;    // empty = from the answer or the URL
    std::uint32_t perm = 0;  // 0 = 0600
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::string auth_header_secret;              // id of a secret with the Authorization header
    std::map<std::string, std::string> headers;  // accept and user-agent
};

// From an LLB source op; unknown attributes are ignored, malformed ones refused.
[[nodiscard]] Result<HttpRequest> http_request(const std::string& url,
                                               const std::map<std::string, std::string>& attributes);

struct HttpPin {
    std::string key;  // BuildKit's cache key
    Digest digest;    // of the bytes
    std::string filename;
    std::optional<store::LayerId> layer;       // known already
    std::optional<std::int64_t> modified_s{};  // Last-Modified, when the server was asked and says
};

class HttpSource {
public:
    // References must outlive the source.
    HttpSource(store::Store& store, http::Client& client, std::uint64_t max_bytes)
        : store_(store), client_(client), max_bytes_(max_bytes) {}

    // Finds out what the URL gives now. Without a checksum this downloads what is not known yet.
    [[nodiscard]] Result<HttpPin> pin(const HttpRequest& request, session::Session& session, VertexProgress* progress,
                                      const Stop& stop);
    // A chain of one layer. Downloads when pin() did not have to.
    [[nodiscard]] Result<store::Chain> fetch(const HttpRequest& request, const HttpPin& pinned,
                                             session::Session& session, VertexProgress* progress, const Stop& stop);
    // The first bytes of what the URL gives, to tell what it is; nothing is kept.
    [[nodiscard]] Result<std::string> peek(const HttpRequest& request, session::Session& session,
                                           std::size_t limit_bytes, const Stop& stop);

private:
    struct Remembered;
    struct Saved;
    Result<http::Request> to_http(const HttpRequest& request, session::Session& session, const Stop& stop) const;
    Result<std::optional<Remembered>> recall(const std::string& key);
    Result<bool> unchanged(const http::Request& get, const Remembered& known, const Stop& stop);
    Result<Saved> save(const HttpRequest& request, http::Response& response, VertexProgress* progress,
                       const Stop& stop);

    store::Store& store_;
    http::Client& client_;
    std::uint64_t max_bytes_;
};

// A file name that stays in its directory: from the attribute, Content-Disposition, the URL's path, or
// "download".
[[nodiscard]] std::string http_file_name(const HttpRequest& request, const http::Headers* answer);

}  // namespace cooper::source
