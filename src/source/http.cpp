#include "source/http.hpp"

#include "base/text.hpp"
#include "codec/compression.hpp"
#include "codec/go_json.hpp"
#include "codec/sha256.hpp"
#include "http/url.hpp"

#include <array>
#include <ctime>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::source {
namespace {

constexpr std::uint32_t kDefaultPerm = 0600;
constexpr std::uint64_t kTellEveryBytes = 1u << 20;

// RFC 9110 section 5.6.7, the preferred form: "Sun, 06 Nov 1994 08:49:37 GMT".
std::optional<std::int64_t> parse_http_date(const std::string& text) {
    std::tm time{};
    const char* end = strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S", &time);
    if (!end || (std::string_view(end) != " GMT" && std::string_view(end) != " UTC")) return std::nullopt;
    return timegm(&time);
}

std::string safe_base_name(std::string_view name) {
    std::string base(
        name.substr(name.find_last_of("/\\") == std::string_view::npos ? 0 : name.find_last_of("/\\") + 1));
    std::erase_if(base, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; });
    if (base == "." || base == ".." || base.size() > 255) return "";
    return base;
}

std::string disposition_name(const std::string& header) {
    for (const std::string& part : split(header, ';')) {
        const auto [name, value] = cut(trim(part), '=');
        if (!value || !equal_ignoring_case(trim(name), "filename")) continue;
        std::string_view text = trim(*value);
        if (text.size() >= 2 && text.starts_with('"') && text.ends_with('"')) text = text.substr(1, text.size() - 2);
        return safe_base_name(text);
    }
    return "";
}

// What of a request decides about the file that comes out, except its content.
void write_identity(codec::GoJson& json, const HttpRequest& request, const std::string& filename) {
    json.field("Filename", filename);
    json.key("Perm").unsigned_integer(request.perm);
    json.key("UID").unsigned_integer(request.uid);
    json.key("GID").unsigned_integer(request.gid);
}

void write_headers(codec::GoJson& json, const HttpRequest& request) {
    if (!request.auth_header_secret.empty()) json.field("AuthHeaderSecret", request.auth_header_secret);
    if (request.headers.empty()) return;
    json.key("Header").begin_array();
    for (const auto& [name, value] : request.headers) {
        json.begin_object().field("Name", name).field("Value", value).end_object();
    }
    json.end_array();
}

std::string cache_key(const HttpRequest& request, const std::string& filename, const Digest& digest,
                      const std::string& last_modified) {
    codec::GoJson json;
    json.begin_object();
    write_identity(json, request, filename);
    json.field("Checksum", digest.to_string());
    if (!last_modified.empty()) json.field("LastModTime", last_modified);
    write_headers(json, request);
    json.end_object();
    return codec::sha256_of(json.text()).to_string();
}

std::string memory_key(const HttpRequest& request) {
    codec::GoJson json;
    json.begin_object();
    json.field("URL", request.url);
    write_identity(json, request, request.filename);
    if (request.checksum) json.field("Checksum", request.checksum->to_string());
    write_headers(json, request);
    json.end_object();
    return "http:" + codec::sha256_of(json.text()).to_string();
}

Result<std::uint32_t> number_attribute(const std::string& name, const std::string& value) {
    char* end = nullptr;
    errno = 0;
    const unsigned long long number = std::strtoull(value.c_str(), &end, 0);
    if (value.empty() || value.front() == '-' || *end != '\0' || errno != 0 || number > INT32_MAX) {
        return bad_input("{} {} is not a number", name, cooper::quoted(value));
    }
    return static_cast<std::uint32_t>(number);
}

Error bad_status(const std::string& url, int status) {
    const Code code = status == 404                    ? Code::not_found
                      : status == 401 || status == 403 ? Code::permission_denied
                      : status >= 500                  ? Code::unavailable
                                                       : Code::failed_precondition;
    return fail(code, status >= 500 ? Blame::world : Blame::user, "{}: invalid response status {}",
                http::printable(url), status)
        .with_detail(HttpStatus{status, ""});
}

// Content-Encoding undone, as Go's client does.
// What a client uploads through its session, as BuildKit's clients name it.
constexpr std::string_view kUploads = "http://buildkit-session/";

Result<std::unique_ptr<ByteSource>> decoded(http::Response& response) {
    const std::string encoding = to_lower(response.headers.find("Content-Encoding").value_or(""));
    if (encoding != "gzip") return std::move(response.body);
    return codec::make_decompressor(std::move(response.body), codec::Compression::gzip);
}

}  // namespace

struct HttpSource::Remembered {
    std::string etag;
    std::string last_modified;
    std::string filename;
    Digest digest;
    store::LayerId layer = 0;
};

struct HttpSource::Saved {
    std::string filename;
    std::string last_modified;
    Digest digest;
    store::LayerId layer = 0;
};

std::string http_file_name(const HttpRequest& request, const http::Headers* answer) {
    if (std::string name = safe_base_name(request.filename); !name.empty()) return name;
    if (answer) {
        std::string name = disposition_name(answer->find("Content-Disposition").value_or(""));
        if (!name.empty()) return name;
    }
    if (const auto url = http::Url::parse(request.url)) {
        std::string name = safe_base_name(http::percent_decode(url->path));
        if (!name.empty()) return name;
    }
    return "download";
}

Result<HttpRequest> http_request(const std::string& url, const std::map<std::string, std::string>& attributes) {
    HttpRequest request{.url = url};
    TRY(http::Url::parse(url));
    constexpr std::string_view kHeader = "http.header.";
    for (const auto& [name, value] : attributes) {
        if (name == "http.checksum") {
            request.checksum = TRY_CONTEXT(Digest::parse(value), "http.checksum");
            if (request.checksum->algorithm() != Digest::Algorithm::sha256) {
                return bad_input("checksum {}: only sha256 can be verified", value);
            }
        } else if (name == "http.filename") {
            request.filename = value;
        } else if (name == "http.perm") {
            request.perm = TRY(number_attribute(name, value)) & 07777u;
        } else if (name == "http.uid") {
            request.uid = TRY(number_attribute(name, value));
        } else if (name == "http.gid") {
            request.gid = TRY(number_attribute(name, value));
        } else if (name == "http.authheadersecret") {
            request.auth_header_secret = value;
        } else if (name.starts_with(kHeader)) {
            const std::string header = to_lower(name.substr(kHeader.size()));
            if (header == "accept" || header == "user-agent") request.headers[header] = value;
        } else if (name == "http.sig.pubkey" || name == "http.sig.signature") {
            return fail(Code::unimplemented, Blame::user, "signatures of {} cannot be verified", http::printable(url))
                .with_hint("pin the content with a checksum instead");
        }
    }
    return request;
}

Result<http::Request> HttpSource::to_http(const HttpRequest& request, session::Session& session,
                                          const Stop& stop) const {
    http::Request get{.url = request.url};
    const http::Url url = TRY(http::Url::parse(request.url));
    for (const auto& [name, value] : request.headers) get.headers.set(name, value);
    get.headers.set("Accept-Encoding", "gzip");
    if (!request.auth_header_secret.empty()) {
        const auto secret = TRY(session.find_secret(request.auth_header_secret, stop));
        if (!secret) {
            return bad_input("there is no secret {}, which {} needs", cooper::quoted(request.auth_header_secret),
                             http::printable(request.url))
                .with_hint("give it with --secret id=" + request.auth_header_secret);
        }
        get.headers.set("Authorization", secret->reveal());
        return get;
    }
    if (const auto header = TRY(session.find_secret("HTTP_AUTH_HEADER_" + url.host, stop))) {
        get.headers.set("Authorization", header->reveal());
    }
    if (const auto token = TRY(session.find_secret("HTTP_AUTH_TOKEN_" + url.host, stop))) {
        get.headers.set("Authorization", "Bearer " + token->reveal());
    }
    return get;
}

Result<std::optional<HttpSource::Remembered>> HttpSource::recall(const std::string& key) {
    const auto fact = TRY(store_.fact(key));
    if (!fact) return std::optional<Remembered>();
    const auto json = nlohmann::json::parse(fact->value, nullptr, false);
    if (!json.is_object()) return std::optional<Remembered>();
    const auto text = [&](const char* name) {
        const auto found = json.find(name);
        return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    Remembered known{.etag = text("etag"), .last_modified = text("last_modified"), .filename = text("filename")};
    const auto digest = Digest::parse(text("digest"));
    const auto layer = parse_int(text("layer"));
    if (!digest || !layer) return std::optional<Remembered>();
    known.digest = *digest;
    known.layer = *layer;
    if (!TRY(store_.hold(store::Chain{{known.layer}}))) return std::optional<Remembered>();
    return std::optional(std::move(known));
}

Result<bool> HttpSource::unchanged(const http::Request& get, const Remembered& known, const Stop& stop) {
    if (known.etag.empty()) return false;
    http::Request head = get;
    head.method = http::Method::head;
    head.headers.set("If-None-Match", known.etag);
    const http::Response response = TRY(client_.send_with_retry(head, http::RetryPolicy{}, stop));
    if (response.status == 304) return true;
    return response.status == 200 && response.headers.find("ETag") == known.etag;
}

Result<HttpPin> HttpSource::pin(const HttpRequest& request, session::Session& session, VertexProgress* progress,
                                const Stop& stop) {
    auto known = TRY(recall(memory_key(request)));
    if (request.checksum) {
        const std::string filename = http_file_name(request, nullptr);
        HttpPin pinned{.key = cache_key(request, filename, *request.checksum, ""),
                       .digest = *request.checksum,
                       .filename = filename};
        if (known) pinned.layer = known->layer;
        return pinned;
    }
    if (request.url.starts_with(kUploads)) {
        // It comes once; whoever asks again gets what came.
        if (!known || !TRY(store_.hold(store::Chain{{known->layer}}))) {
            http::Response upload;
            upload.status = 200;
            upload.body = TRY(session.read_upload(request.url.substr(kUploads.size()), stop));
            TRY(save(request, upload, progress, stop));
            known = TRY(recall(memory_key(request)));
            if (!known) return fail(Code::internal, Blame::cooper, "an upload was not remembered");
        }
        return HttpPin{.key = cache_key(request, known->filename, known->digest, ""),
                       .digest = known->digest,
                       .filename = known->filename,
                       .layer = known->layer};
    }
    http::Request get = TRY(to_http(request, session, stop));
    const auto reuse = [&]() {
        return HttpPin{.key = cache_key(request, known->filename, known->digest, known->last_modified),
                       .digest = known->digest,
                       .filename = known->filename,
                       .layer = known->layer,
                       .modified_s = parse_http_date(known->last_modified)};
    };
    if (known && TRY(unchanged(get, *known, stop))) return reuse();
    if (known && !known->etag.empty()) get.headers.set("If-None-Match", known->etag);
    if (known && !known->last_modified.empty()) get.headers.set("If-Modified-Since", known->last_modified);
    http::Response response = TRY(client_.send_with_retry(get, http::RetryPolicy{}, stop));
    if (response.status == 304 && known) return reuse();
    const Saved saved = TRY(save(request, response, progress, stop));
    return HttpPin{.key = cache_key(request, saved.filename, saved.digest, saved.last_modified),
                   .digest = saved.digest,
                   .filename = saved.filename,
                   .layer = saved.layer,
                   .modified_s = parse_http_date(saved.last_modified)};
}

Result<HttpSource::Saved> HttpSource::save(const HttpRequest& request, http::Response& response,
                                           VertexProgress* progress, const Stop& stop) {
    if (response.status < 200 || response.status >= 300) return bad_status(request.url, response.status);
    const std::string shown = http::printable(request.url);
    Saved saved{.filename = http_file_name(request, &response.headers),
                .last_modified = response.headers.find("Last-Modified").value_or("")};
    const std::string etag = response.headers.find("ETag").value_or("");
    const auto announced = parse_int(response.headers.find("Content-Length").value_or(""));
    const auto body = TRY(decoded(response));
    store::LayerDraft draft = TRY(store_.begin_layer());
    const sys::RootedDir dir = TRY(draft.open());
    sys::Fd file = TRY(dir.open(saved.filename, O_WRONLY | O_CREAT | O_EXCL, sys::Follow::no, 0600));
    codec::Sha256 hash;
    std::uint64_t size = 0;
    std::uint64_t told = 0;
    Bytes chunk(256 * 1024);
    for (;;) {
        TRY(check_stop(stop));
        const std::size_t n = TRY_CONTEXT(body->read(chunk), "{}", shown);
        if (n == 0) break;
        size += n;
        if (size > max_bytes_) {
            return fail(Code::resource_exhausted, Blame::user, "{} is larger than the {} allowed", shown,
                        human_size(max_bytes_));
        }
        const std::span<const std::byte> data(chunk.data(), n);
        hash.update(data);
        TRY(sys::write_all(file.get(), data));
        if (progress && size - told >= kTellEveryBytes) {
            told = size;
            progress->status(shown, shown, static_cast<std::int64_t>(size), announced.value_or(0), false);
        }
    }
    if (progress) {
        progress->status(shown, shown, static_cast<std::int64_t>(size), static_cast<std::int64_t>(size), true);
    }
    saved.digest = hash.finish();
    if (request.checksum && *request.checksum != saved.digest) {
        return fail(Code::data_loss, Blame::user, "{}: digest mismatch: expected {}, got {}", shown,
                    request.checksum->to_string(), saved.digest.to_string())
            .with_hint("the file at the URL is not the one the checksum was made for");
    }
    const timespec mtime{.tv_sec = parse_http_date(saved.last_modified).value_or(0), .tv_nsec = 0};
    const std::array<timespec, 2> times{mtime, mtime};
    if (fchown(file.get(), request.uid, request.gid) != 0 ||
        fchmod(file.get(), request.perm == 0 ? kDefaultPerm : request.perm) != 0 ||
        futimens(file.get(), times.data()) != 0) {
        return fail_errno(errno, "set the owner and mode of " + saved.filename);
    }
    TRY(std::move(file).close());
    saved.layer =
        TRY(std::move(draft).commit(store::LayerInfo{.description = "http url " + shown, .size_bytes = size}));
    const nlohmann::ordered_json fact{{"etag", etag},
                                      {"last_modified", saved.last_modified},
                                      {"filename", saved.filename},
                                      {"digest", saved.digest.to_string()},
                                      {"layer", std::to_string(saved.layer)}};
    TRY(store_.set_fact(memory_key(request), fact.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
    return saved;
}

Result<store::Chain> HttpSource::fetch(const HttpRequest& request, const HttpPin& pinned, session::Session& session,
                                       VertexProgress* progress, const Stop& stop) {
    if (pinned.layer) {
        const store::Chain chain{{*pinned.layer}};
        if (TRY(store_.hold(chain))) return chain;
    }
    const http::Request get = TRY(to_http(request, session, stop));
    http::Response response = TRY(client_.send_with_retry(get, http::RetryPolicy{}, stop));
    const Saved saved = TRY(save(request, response, progress, stop));
    if (saved.digest != pinned.digest) {
        return fail(Code::aborted, Blame::world, "{} changed while it was being built with",
                    http::printable(request.url))
            .with_hint("build again, or pin it with a checksum");
    }
    return store::Chain{{saved.layer}};
}

Result<std::string> HttpSource::peek(const HttpRequest& request, session::Session& session, std::size_t limit_bytes,
                                     const Stop& stop) {
    if (request.url.starts_with(kUploads)) {
        HttpRequest whole = request;
        whole.filename = "context";  // as the frontend asks for it afterwards
        const HttpPin pinned = TRY(pin(whole, session, nullptr, stop));
        const sys::Fd file = TRY(TRY(sys::RootedDir::open_host(store_.layer_path(pinned.layer.value_or(0))))
                                     .open(pinned.filename, O_RDONLY, sys::Follow::no, 0));
        std::string head(limit_bytes, '\0');
        const ssize_t got = ::pread(file.get(), head.data(), head.size(), 0);
        if (got < 0) return fail_errno(errno, "read an upload");
        head.resize(static_cast<std::size_t>(got));
        return head;
    }
    const http::Request get = TRY(to_http(request, session, stop));
    http::Response response = TRY(client_.send_with_retry(get, http::RetryPolicy{}, stop));
    if (response.status < 200 || response.status >= 300) return bad_status(request.url, response.status);
    const auto body = TRY(decoded(response));
    std::string head;
    Bytes chunk(16 * 1024);
    while (head.size() < limit_bytes) {
        const std::size_t want = std::min(chunk.size(), limit_bytes - head.size());
        const std::size_t n = TRY(body->read(std::span(chunk.data(), want)));
        if (n == 0) break;
        head += as_text(std::span<const std::byte>(chunk.data(), n));
    }
    return head;
}

}  // namespace cooper::source
