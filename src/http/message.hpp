// What goes over HTTP: headers, a request, a response. Values but for the bodies.
#pragma once

#include "base/bytes.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cooper::http {

// Names compare without regard to case; order and repetitions are kept.
class Headers {
public:
    void add(std::string name, std::string value);
    void set(std::string_view name, std::string value);  // replaces all of that name
    void remove(std::string_view name);
    // The first of that name.
    [[nodiscard]] std::optional<std::string> find(std::string_view name) const;
    [[nodiscard]] std::vector<std::string> find_all(std::string_view name) const;
    [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& all() const { return fields_; }

private:
    std::vector<std::pair<std::string, std::string>> fields_;
};

enum class Method : std::uint8_t { get, head, post, put, patch, del };
[[nodiscard]] std::string_view method_name(Method method);

// A body that can be made again, for a retry or a redirect needs it from the start.
struct Body {
    std::optional<std::uint64_t> size_bytes;  // nullopt = sent in chunks
    std::function<Result<std::unique_ptr<ByteSource>>()> open;
};
[[nodiscard]] Body text_body(std::string text);

enum class Verify : std::uint8_t { yes, no };
struct TlsOptions {
    Verify verify = Verify::yes;
    std::string ca_file;      // PEM, beside the system's; empty = system's only
    std::string client_cert;  // PEM
    std::string client_key;   // PEM
};

enum class Redirects : std::uint8_t { follow, refuse };

struct Request {
    Method method = Method::get;
    std::string url;  // http:// or https://
    Headers headers;
    std::optional<Body> body;
    TlsOptions tls;
    std::string unix_socket;  // connect there instead of to the URL's host
    Redirects redirects = Redirects::follow;
    std::chrono::milliseconds connect_timeout{15'000};
    // No byte for this long means the connection is dead.
    std::chrono::seconds idle_timeout{60};
};

struct Response {
    int status = 0;
    Headers headers;
    std::string url;  // of the last hop
    // Never null; bytes as on the wire (no content decoding). A transfer cut short is an error.
    std::unique_ptr<ByteSource> body;
};

}  // namespace cooper::http
