#include "cachestore/azure_blob.hpp"

#include "base/text.hpp"
#include "base/work_pool.hpp"
#include "codec/base64.hpp"
#include "codec/sha256.hpp"
#include "http/url.hpp"

#include <algorithm>
#include <ctime>
#include <map>

namespace cooper::cachestore {

namespace {

constexpr std::string_view kVersion = "2021-12-02";
constexpr std::uint64_t kMaxBlocks = 50'000;

bool is_there_already(const detail::Refusal& refusal) {
    return refusal.status == 412 || (refusal.status == 409 && refusal.code == "BlobAlreadyExists");
}

// The id of a block: all of one length.
std::string block_id(std::size_t number) { return codec::base64_encode(fmt::format("block-{:06}", number)); }

}  // namespace

void prepare_azure(http::Request& request) { request.headers.set("x-ms-version", std::string(kVersion)); }

void sign_azure(http::Request& request, const AzureKey& key, Timestamp now) {
    prepare_azure(request);
    const std::time_t seconds = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
    std::tm time{};
    ::gmtime_r(&seconds, &time);
    char date[64];
    std::strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &time);
    request.headers.set("x-ms-date", date);

    const auto url = http::Url::parse(request.url);
    CHECK(url);  // made by us of an origin that was parsed
    const auto header = [&](std::string_view name) { return request.headers.find(name).value_or(""); };
    const std::uint64_t length = request.body ? request.body->size_bytes.value_or(0) : 0;
    std::string text(http::method_name(request.method));
    text += "\n";
    for (const char* name : {"Content-Encoding", "Content-Language"}) text += header(name) + "\n";
    text += (length == 0 ? std::string() : std::to_string(length)) + "\n";
    for (const char* name : {"Content-MD5", "Content-Type", "Date", "If-Modified-Since", "If-Match", "If-None-Match",
                             "If-Unmodified-Since", "Range"})
        text += header(name) + "\n";
    std::map<std::string, std::string> headers;
    for (const auto& [name, value] : request.headers.all()) {
        if (const std::string lower = to_lower(name); lower.starts_with("x-ms-"))
            headers[lower] = std::string(trim(value));
    }
    for (const auto& [name, value] : headers) text += name + ":" + value + "\n";
    text += "/" + key.account + url->path;
    std::map<std::string, std::string> parameters;
    for (const auto& part : split(url->query, '&')) {
        if (part.empty()) continue;
        const auto [name, value] = cut(part, '=');
        parameters[to_lower(http::percent_decode(name))] = http::percent_decode(value.value_or(""));
    }
    for (const auto& [name, value] : parameters) text += "\n" + name + ":" + value;

    const Digest mac = codec::hmac_sha256(key.key, text);
    std::string bytes(32, '\0');
    static_cast<void>(from_hex(mac.hex(), std::span(reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size())));
    request.headers.set("Authorization", fmt::format("SharedKey {}:{}", key.account, codec::base64_encode(bytes)));
}

Result<bool> put_azure_blob(const detail::Caller& caller, const std::string& path, const detail::Query& query,
                            const PutBlob& blob, IfThere if_there, std::uint64_t block_bytes, const std::string& what,
                            const Stop& stop) {
    const std::uint64_t size = blob.blob.size;
    // Whether it is written; the last request decides about what is there already.
    const auto finish = [&](detail::Call call) -> Result<bool> {
        call.method = http::Method::put;
        call.path = path;
        if (if_there == IfThere::keep) call.headers.set("If-None-Match", "*");
        http::Response response = TRY_CONTEXT(caller.send(call, stop), "{}", what);
        if (response.status == 201) return true;
        const detail::Refusal refusal = detail::refusal_of(response);
        if (if_there == IfThere::keep && is_there_already(refusal)) return false;
        return detail::error_of(refusal, what);
    };
    if (size <= block_bytes) {
        detail::Call call;
        call.query = query;
        call.headers.set("x-ms-blob-type", "BlockBlob");
        call.headers.set("Content-Type", "application/octet-stream");
        call.open = blob.open;
        call.size_bytes = size;
        const bool written = TRY(finish(std::move(call)));
        if (blob.on_progress) blob.on_progress(size);
        return written;
    }
    const std::uint64_t block = std::max(block_bytes, (size + kMaxBlocks - 1) / kMaxBlocks);
    const auto count = static_cast<std::size_t>((size + block - 1) / block);
    const auto source = TRY(blob.open());
    std::uint64_t left = size;
    for (std::size_t first = 0; first < count; first += kAzureBlocksAtOnce) {
        const std::size_t group = std::min(kAzureBlocksAtOnce, count - first);
        const auto blocks = TRY(detail::read_pieces(*source, blob.blob.digest, group, block, left));
        TRY(parallel_for(group, kAzureBlocksAtOnce, [&](std::size_t i) -> Result<> {
            detail::Call call;
            call.method = http::Method::put;
            call.path = path;
            call.query = query;
            call.query["comp"] = "block";
            call.query["blockid"] = block_id(first + i);
            call.body = blocks[i];
            http::Response response = TRY_CONTEXT(caller.send(call, stop), "{}", what);
            if (response.status != 201) return detail::error_of(detail::refusal_of(response), what);
            return {};
        }));
        if (blob.on_progress) blob.on_progress(std::min(size, (first + group) * block));
    }
    std::string list = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>";
    for (std::size_t i = 0; i < count; ++i) list += "<Latest>" + block_id(i) + "</Latest>";
    list += "</BlockList>";
    detail::Call call;
    call.query = query;
    call.query["comp"] = "blocklist";
    call.headers.set("Content-Type", "application/xml");
    call.body = std::make_shared<const std::string>(std::move(list));
    return finish(std::move(call));
}

Result<std::unique_ptr<ByteSource>> get_azure_blob(const detail::Caller& caller, const std::string& path,
                                                   const detail::Query& query, const Range& range,
                                                   std::uint64_t size_bytes, const std::string& what,
                                                   const Stop& stop) {
    auto open = [caller, path, query, what, stop](const Range& rest) -> Result<std::unique_ptr<ByteSource>> {
        detail::Call call;
        call.path = path;
        call.query = query;
        if (const std::string header = detail::range_header(rest); !header.empty())
            call.headers.set("x-ms-range", header);
        http::Response response = TRY_CONTEXT(caller.send(call, stop), "{}", what);
        if (response.status != (call.headers.find("x-ms-range") ? 206 : 200))
            return detail::error_of(detail::refusal_of(response), what);
        return std::move(response.body);
    };
    return detail::open_resuming(std::move(open), range, size_bytes, stop);
}

}  // namespace cooper::cachestore
