// Caller: requests to an object store, tried again within bounds, and answers that are no success turned into errors
// that say what the store said. How a request is signed is the store's.
#pragma once

#include "base/stop.hpp"
#include "cachestore/cache_store.hpp"
#include "http/client.hpp"

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cooper::cachestore::detail {

struct CallLimits {
    int attempts = 4;
    std::chrono::milliseconds first_delay{250};
    std::chrono::milliseconds max_delay{20'000};
    std::chrono::seconds idle_timeout{60};
    // No attempt begins later than this after the first one.
    std::chrono::milliseconds all_attempts{600'000};
};

using Query = std::map<std::string, std::string>;

struct Call {
    http::Method method = http::Method::get;
    std::string path;  // encoded, begins with '/'
    Query query;
    http::Headers headers;
    std::shared_ptr<const std::string> body;                    // or
    std::function<Result<std::unique_ptr<ByteSource>>()> open;  // with its size
    std::uint64_t size_bytes = 0;
    std::string payload_sha256;  // hex; of body or open
};

class Caller {
public:
    // sign completes a request; it is called for each attempt, so that its date is of now.
    using Sign = std::function<void(const Call& call, http::Request& request)>;

    Caller(http::Client& client, std::string origin, CallLimits limits, Sign sign)
        : client_(client), origin_(std::move(origin)), limits_(limits), sign_(std::move(sign)) {}

    // Any status that another attempt would not change.
    [[nodiscard]] Result<http::Response> send(const Call& call, const Stop& stop) const;
    // "https://host:port", to which paths are added.
    [[nodiscard]] const std::string& origin() const { return origin_; }

private:
    http::Client& client_;
    std::string origin_;
    CallLimits limits_;
    Sign sign_;
};

// "a=b&c=d", encoded, in the order of the names.
[[nodiscard]] std::string query_text(const Query& query);
// Each segment encoded, slashes kept.
[[nodiscard]] std::string path_text(std::string_view key);
[[nodiscard]] http::Body shared_body(std::shared_ptr<const std::string> text);

// The text between <NAME> and </NAME>, entities resolved; empty when there is none.
[[nodiscard]] std::string xml_value(std::string_view xml, std::string_view name);
[[nodiscard]] std::string xml_escape(std::string_view text);

// What the store answered instead: code and message from XML or JSON. Reads the body.
struct Refusal {
    int status = 0;
    std::string code;
    std::string message;
};
[[nodiscard]] Refusal refusal_of(http::Response& response);
[[nodiscard]] Error error_of(const Refusal& refusal, const std::string& what);

// "Tue, 01 Jan 2030 00:00:00 GMT"
[[nodiscard]] std::optional<std::int64_t> parse_http_date(const std::string& text);

// A body that is asked for again from where it broke off, a few times. open(rest) answers with what is left of the
// range. Nothing is asked for where nothing is left: servers refuse a range that begins at the end of a blob.
// size_bytes: of the blob; 0 when it is not known.
using OpenRange = std::function<Result<std::unique_ptr<ByteSource>>(const Range& rest)>;
[[nodiscard]] Result<std::unique_ptr<ByteSource>> open_resuming(OpenRange open, const Range& range,
                                                                std::uint64_t size_bytes, const Stop& stop);

// The next pieces of a blob, as many as `count`, each of piece_bytes but the last of the blob. left: what has not been
// read yet, made less. data_loss when the blob ends before that.
using Piece = std::shared_ptr<std::string>;
[[nodiscard]] Result<std::vector<Piece>> read_pieces(ByteSource& source, const Digest& blob, std::size_t count,
                                                     std::uint64_t piece_bytes, std::uint64_t& left);

// "bytes=0-99", or "" for the whole.
[[nodiscard]] std::string range_header(const Range& range);

}  // namespace cooper::cachestore::detail
