#include "cachestore/detail/caller.hpp"

#include "base/text.hpp"
#include "cachestore/detail/limited.hpp"
#include "http/url.hpp"

#include <algorithm>
#include <ctime>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>

namespace cooper::cachestore::detail {

namespace {

constexpr std::size_t kMaxErrorBytes = 64u << 10;
constexpr int kMaxResumes = 5;

class SharedSource final : public ByteSource {
public:
    explicit SharedSource(std::shared_ptr<const std::string> text) : text_(std::move(text)) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override {
        const std::size_t count = std::min(buffer.size(), text_->size() - at_);
        const auto bytes = as_bytes(*text_).subspan(at_, count);
        std::ranges::copy(bytes, buffer.begin());
        at_ += count;
        return count;
    }

private:
    std::shared_ptr<const std::string> text_;
    std::size_t at_ = 0;
};

class ResumingSource final : public ByteSource {
public:
    ResumingSource(OpenRange open, const Range& range, std::uint64_t size_bytes, Stop stop)
        : open_(std::move(open)), rest_(range), stop_(std::move(stop)) {
        if (rest_.length == kWhole.length && size_bytes > 0) left_ = size_bytes - std::min(size_bytes, rest_.offset);
    }
    Result<> connect() {
        if (!at_end()) source_ = TRY(open_(rest_));
        return {};
    }
    Result<std::size_t> read(std::span<std::byte> buffer) override {
        while (true) {
            if (!source_ && at_end()) return 0;
            auto got = source_ ? source_->read(buffer) : Result<std::size_t>(broken_);
            if (got) {
                rest_.offset += *got;
                if (rest_.length != kWhole.length) rest_.length -= std::min<std::uint64_t>(rest_.length, *got);
                if (left_) *left_ -= std::min<std::uint64_t>(*left_, *got);
                return got;
            }
            if (!http::is_retryable(got.error()) || resumes_ == kMaxResumes) return got;
            source_.reset();
            if (at_end()) return 0;
            ++resumes_;
            TRY(http::wait_for(std::chrono::milliseconds(100) * (1 << resumes_), stop_));
            const auto again = connect();
            if (!again && !http::is_retryable(again.error())) return again.error();
            if (!again) broken_ = again.error();
        }
    }

private:
    [[nodiscard]] bool at_end() const { return rest_.length == 0 || left_ == std::uint64_t{0}; }

    OpenRange open_;
    Range rest_;
    std::optional<std::uint64_t> left_;  // of a blob whose size is known and whose end is not in rest_
    std::unique_ptr<ByteSource> source_;
    Stop stop_;
    int resumes_ = 0;
    Error broken_ = Error(Code::unavailable, Blame::world, "the connection broke");
};

std::string unescaped(std::string_view text) {
    static constexpr std::pair<std::string_view, char> kEntities[] = {
        {"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};
    std::string out;
    while (!text.empty()) {
        bool replaced = false;
        for (const auto& [entity, character] : kEntities) {
            if (!text.starts_with(entity)) continue;
            out += character;
            text.remove_prefix(entity.size());
            replaced = true;
            break;
        }
        if (replaced) continue;
        out += text.front();
        text.remove_prefix(1);
    }
    return out;
}

Code code_of(int status) {
    switch (status) {
        case 401:
            return Code::unauthenticated;
        case 403:
            return Code::permission_denied;
        case 404:
            return Code::not_found;
        case 408:
        case 425:
            return Code::unavailable;
        case 409:
            return Code::already_exists;
        case 412:
            return Code::aborted;
        case 413:
        case 429:
        case 507:
            return Code::resource_exhausted;
        default:
            return status >= 500 ? Code::unavailable : Code::failed_precondition;
    }
}

}  // namespace

std::string query_text(const Query& query) {
    std::vector<std::string> parts;
    for (const auto& [key, value] : query)
        parts.push_back(http::percent_encode(key) + "=" + http::percent_encode(value));
    return join(parts, "&");
}

std::string path_text(std::string_view key) {
    std::vector<std::string> parts;
    for (const auto& part : split(key, '/')) parts.push_back(http::percent_encode(part));
    return join(parts, "/");
}

http::Body shared_body(std::shared_ptr<const std::string> text) {
    const std::size_t size = text->size();
    return {.size_bytes = size, .open = [text = std::move(text)]() -> Result<std::unique_ptr<ByteSource>> {
                return std::make_unique<SharedSource>(text);
            }};
}

Result<http::Response> Caller::send(const Call& call, const Stop& stop) const {
    const auto begun = std::chrono::steady_clock::now();
    const http::RetryPolicy policy{
        .attempts = limits_.attempts, .first_delay = limits_.first_delay, .max_delay = limits_.max_delay};
    for (int attempt = 1;; ++attempt) {
        http::Request request;
        request.method = call.method;
        request.url = origin_ + call.path;
        if (!call.query.empty()) request.url += "?" + query_text(call.query);
        request.headers = call.headers;
        if (call.body) {
            request.body = shared_body(call.body);
        } else if (call.open) {
            request.body = http::Body{.size_bytes = call.size_bytes, .open = call.open};
        } else if (call.method == http::Method::put || call.method == http::Method::post) {
            request.body = http::text_body("");
        }
        // A signature is for one host and path.
        request.redirects = http::Redirects::refuse;
        request.idle_timeout = limits_.idle_timeout;
        sign_(call, request);
        Result<http::Response> response = client_.send(request, stop);
        const bool worth_it =
            response ? http::is_retryable_status(response->status) : http::is_retryable(response.error());
        if (!worth_it || attempt >= limits_.attempts) return response;
        const auto delay = http::retry_delay(policy, attempt, response ? &response->headers : nullptr);
        if (std::chrono::steady_clock::now() - begun + delay > limits_.all_attempts) return response;
        response = cancelled();  // lets the connection go before the wait
        TRY(http::wait_for(delay, stop));
    }
}

std::string xml_value(std::string_view xml, std::string_view name) {
    const std::string open = fmt::format("<{}>", name);
    const std::string close = fmt::format("</{}>", name);
    const std::size_t begin = xml.find(open);
    if (begin == std::string_view::npos) return {};
    const std::size_t end = xml.find(close, begin);
    if (end == std::string_view::npos) return {};
    return unescaped(xml.substr(begin + open.size(), end - begin - open.size()));
}

std::string xml_escape(std::string_view text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '&':
                out += "&amp;";
                break;
            case '"':
                out += "&quot;";
                break;
            default:
                out += c;
        }
    }
    return out;
}

Refusal refusal_of(http::Response& response) {
    Refusal refusal;
    refusal.status = response.status;
    std::string text;
    if (response.body) {
        Limited body(std::move(response.body), kMaxErrorBytes);
        if (auto read = read_all(body, kMaxErrorBytes)) text = std::move(*read);
    }
    refusal.code = xml_value(text, "Code");
    refusal.message = xml_value(text, "Message");
    if (refusal.code.empty() && text.starts_with('{')) {
        const auto json = nlohmann::json::parse(text, nullptr, false);
        const auto field = [&](const char* name) {
            const auto found = json.is_object() ? json.find(name) : json.end();
            return json.is_object() && found != json.end() && found->is_string() ? found->get<std::string>()
                                                                                 : std::string();
        };
        refusal.code = field("code");
        refusal.message = field("msg").empty() ? field("message") : field("msg");
    }
    if (refusal.code.empty()) refusal.code = response.headers.find("x-ms-error-code").value_or("");
    return refusal;
}

Error error_of(const Refusal& refusal, const std::string& what) {
    std::string text = fmt::format("{}: answered {}", what, refusal.status);
    if (!refusal.code.empty()) text += " " + refusal.code;
    std::string message = refusal.message.substr(0, 300);
    for (char& c : message) {
        if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    }
    if (!message.empty()) text += ": " + message;
    const bool ours = refusal.status == 401 || refusal.status == 403;
    Error error(code_of(refusal.status), ours ? Blame::user : Blame::world, text);
    return error.with_detail(HttpStatus{refusal.status, refusal.message.substr(0, 1024)});
}

std::optional<std::int64_t> parse_http_date(const std::string& text) {
    std::tm time{};
    if (::strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S", &time) == nullptr) return std::nullopt;
    return ::timegm(&time);
}

Result<std::unique_ptr<ByteSource>> open_resuming(OpenRange open, const Range& range, std::uint64_t size_bytes,
                                                  const Stop& stop) {
    auto source = std::make_unique<ResumingSource>(std::move(open), range, size_bytes, stop);
    TRY(source->connect());
    return std::unique_ptr<ByteSource>(std::move(source));
}

Result<std::vector<Piece>> read_pieces(ByteSource& source, const Digest& blob, std::size_t count,
                                       std::uint64_t piece_bytes, std::uint64_t& left) {
    std::vector<Piece> pieces;
    for (std::size_t i = 0; i < count; ++i) {
        auto piece = std::make_shared<std::string>(static_cast<std::size_t>(std::min(piece_bytes, left)), '\0');
        std::span<std::byte> rest = std::as_writable_bytes(std::span(*piece));
        while (!rest.empty()) {
            const std::size_t got = TRY(source.read(rest));
            if (got == 0) return fail(Code::data_loss, Blame::cooper, "{} ended too early", blob.to_string());
            rest = rest.subspan(got);
        }
        left -= piece->size();
        pieces.push_back(std::move(piece));
    }
    return pieces;
}

std::string range_header(const Range& range) {
    if (range.length == kWhole.length) {
        return range.offset == 0 ? std::string() : fmt::format("bytes={}-", range.offset);
    }
    return fmt::format("bytes={}-{}", range.offset, range.offset + std::max<std::uint64_t>(range.length, 1) - 1);
}

}  // namespace cooper::cachestore::detail
