#include "cachestore/s3_store.hpp"

#include "base/text.hpp"
#include "base/work_pool.hpp"
#include "cachestore/detail/limited.hpp"
#include "codec/sha256.hpp"
#include "http/url.hpp"

#include <algorithm>

namespace cooper::cachestore {

namespace {

constexpr std::uint64_t kMaxCopyBytes = std::uint64_t{5} << 30U;  // of one request
constexpr std::uint64_t kMaxParts = 10'000;
constexpr std::size_t kPartsAtOnce = 4;
constexpr std::string_view kEmptySha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

// Names that may stand in front of the host: of others TLS has no certificate.
bool fits_host(std::string_view bucket) {
    const auto fits = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
    return bucket.size() >= 3 && bucket.size() <= 63 && std::ranges::all_of(bucket, fits) && bucket.front() != '-' &&
           bucket.back() != '-';
}

std::string amazon_host(const std::string& region) {
    return fmt::format("s3.{}.amazonaws.com{}", region, region.starts_with("cn-") ? ".cn" : "");
}

std::optional<std::uint64_t> parse_size(const std::optional<std::string>& text) {
    if (!text) return std::nullopt;
    const auto value = parse_int(*text);
    if (!value || *value < 0) return std::nullopt;
    return static_cast<std::uint64_t>(*value);
}

}  // namespace

Result<std::shared_ptr<CacheStore>> S3Store::open(S3Config config, http::Client& client, const Clock& clock) {
    if (config.bucket.empty() || config.bucket.find_first_of("/?#@ ") != std::string::npos)
        return bad_input("{} is no name of a bucket", quoted(config.bucket));
    for (const char c : config.region) {
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
            return bad_input("{} is no name of a region", quoted(config.region));
    }
    bool path_style = config.path_style;
    http::Url url;
    if (config.endpoint.empty()) {
        path_style = !fits_host(config.bucket);
        url = TRY(http::Url::parse("https://" + amazon_host(config.region)));
    } else {
        url = TRY_CONTEXT(http::Url::parse(config.endpoint), "endpoint_url");
        if (!url.query.empty() || !url.userinfo.empty())
            return bad_input("endpoint_url has more than a host and a path");
    }
    std::string path = url.path;
    while (path.ends_with('/')) path.pop_back();
    if (path_style) {
        path += "/" + http::percent_encode(config.bucket);
    } else {
        if (!fits_host(config.bucket)) {
            return bad_input("the bucket {} cannot be a part of a host name", quoted(config.bucket))
                .with_hint("use_path_style=true");
        }
        url.host = config.bucket + "." + url.host;
    }
    std::string origin = url.scheme + "://" + url.authority();
    return std::shared_ptr<CacheStore>(
        new S3Store(std::move(config), client, clock, std::move(origin), std::move(path)));
}

S3Store::S3Store(S3Config config, http::Client& client, const Clock& clock, std::string origin, std::string path_prefix)
    : ObjectStore(config.names),
      config_(std::move(config)),
      clock_(clock),
      caller_(client, std::move(origin), config_.limits,
              [this](const detail::Call& call, http::Request& request) {
                  sign_aws(request, config_.credentials, {.region = config_.region, .service = "s3"},
                           call.payload_sha256.empty() ? std::string(kEmptySha256) : call.payload_sha256, clock_.now());
              }),
      path_prefix_(std::move(path_prefix)),
      place_("s3://" + config_.bucket + (config_.prefix.empty() ? "" : "/" + config_.prefix)) {}

std::string S3Store::blob_key(const Digest& blob) const {
    return config_.prefix + config_.blobs_prefix + blob.to_string();
}

std::string S3Store::path_of(const std::string& key) const { return path_prefix_ + "/" + detail::path_text(key); }

std::string S3Store::what(std::string_view doing, const std::string& key) const {
    return fmt::format("{} s3://{}/{} at {}", doing, config_.bucket, key, http::printable(caller_.origin()));
}

Error S3Store::refused(http::Response& response, const std::string& doing) const {
    const auto region = response.headers.find("x-amz-bucket-region");
    const detail::Refusal refusal = detail::refusal_of(response);
    Error error = detail::error_of(refusal, doing);
    if (region && *region != config_.region && (refusal.status == 301 || refusal.status == 400))
        return error.with_hint(fmt::format("the bucket is in another region: region={}", region->substr(0, 40)));
    if (refusal.code == "NoSuchBucket") return error.with_hint("make the bucket " + config_.bucket + " first");
    if (refusal.status == 401 || refusal.status == 403)
        return error.with_hint("see whether the credentials are right and may read and write this bucket");
    return error;
}

Result<std::optional<S3Store::Head>> S3Store::head(const std::string& key, const Stop& stop) {
    detail::Call call;
    call.method = http::Method::head;
    call.path = path_of(key);
    http::Response response = TRY_CONTEXT(caller_.send(call, stop), "{}", what("look for", key));
    if (response.status == 404) return std::optional<Head>();
    if (response.status != 200) return refused(response, what("look for", key));
    Head found;
    found.size = parse_size(response.headers.find("Content-Length")).value_or(0);
    found.modified_s = detail::parse_http_date(response.headers.find("Last-Modified").value_or(""));
    return std::optional(found);
}

Result<bool> S3Store::has(const Digest& blob, const Stop& stop) { return TRY(head(blob_key(blob), stop)).has_value(); }

Result<Put> S3Store::put(const PutBlob& blob, const Stop& stop) {
    const std::string key = blob_key(blob.blob.digest);
    const auto found = TRY(head(key, stop));
    if (found && found->size == blob.blob.size) {
        const std::int64_t now =
            std::chrono::duration_cast<std::chrono::seconds>(clock_.now().time_since_epoch()).count();
        if (found->modified_s && now - *found->modified_s > config_.touch_refresh.count())
            TRY(touch(key, found->size, stop));
        return Put::existed;
    }
    if (blob.blob.size > 2 * config_.part_bytes) {
        TRY(put_parts(key, blob, stop));
    } else {
        TRY(put_whole(key, blob, stop));
    }
    return Put::uploaded;
}

Result<> S3Store::put_whole(const std::string& key, const PutBlob& blob, const Stop& stop) {
    detail::Call call;
    call.method = http::Method::put;
    call.path = path_of(key);
    call.headers.set("Content-Type", "application/octet-stream");
    call.open = blob.open;
    call.size_bytes = blob.blob.size;
    call.payload_sha256 = blob.blob.digest.hex();
    http::Response response = TRY_CONTEXT(caller_.send(call, stop), "{}", what("put", key));
    if (response.status != 200) return refused(response, what("put", key));
    if (blob.on_progress) blob.on_progress(blob.blob.size);
    return {};
}

Result<std::string> S3Store::begin_upload(const std::string& key, const Stop& stop) {
    detail::Call call;
    call.method = http::Method::post;
    call.path = path_of(key);
    call.query = {{"uploads", ""}};
    http::Response response = TRY_CONTEXT(caller_.send(call, stop), "{}", what("put", key));
    if (response.status != 200) return refused(response, what("put", key));
    const std::string answer = TRY(read_all(*response.body, 1 << 20));
    std::string id = detail::xml_value(answer, "UploadId");
    if (id.empty()) return fail(Code::unavailable, Blame::world, "{}: no upload was begun", what("put", key));
    return id;
}

Result<> S3Store::complete_upload(const std::string& key, const std::string& upload_id,
                                  const std::vector<std::string>& etags, const Stop& stop) {
    std::string body = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
    for (std::size_t i = 0; i < etags.size(); ++i) {
        body +=
            fmt::format("<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>", i + 1, detail::xml_escape(etags[i]));
    }
    body += "</CompleteMultipartUpload>";
    detail::Call call;
    call.method = http::Method::post;
    call.path = path_of(key);
    call.query = {{"uploadId", upload_id}};
    call.headers.set("Content-Type", "application/xml");
    call.payload_sha256 = codec::sha256_of(body).hex();
    call.body = std::make_shared<const std::string>(std::move(body));
    http::Response response = TRY_CONTEXT(caller_.send(call, stop), "{}", what("put", key));
    if (response.status != 200) return refused(response, what("put", key));
    // It may have answered before it knew.
    const std::string answer = TRY(read_all(*response.body, 1 << 20));
    if (const std::string code = detail::xml_value(answer, "Code"); !code.empty()) {
        return detail::error_of({.status = 500, .code = code, .message = detail::xml_value(answer, "Message")},
                                what("put", key));
    }
    return {};
}

// Parts that are left behind cost their owner money. Nobody waits for this, and nothing depends on it.
void S3Store::abort_upload(const std::string& key, const std::string& upload_id) {
    detail::Call call;
    call.method = http::Method::del;
    call.path = path_of(key);
    call.query = {{"uploadId", upload_id}};
    static_cast<void>(caller_.send(call, Stop()));
}

Result<> S3Store::put_parts(const std::string& key, const PutBlob& blob, const Stop& stop) {
    const std::uint64_t size = blob.blob.size;
    const std::uint64_t part = std::max(config_.part_bytes, (size + kMaxParts - 1) / kMaxParts);
    const auto count = static_cast<std::size_t>((size + part - 1) / part);
    const std::string upload_id = TRY(begin_upload(key, stop));
    const auto upload = [&]() -> Result<> {
        const auto source = TRY(blob.open());
        std::vector<std::string> etags(count);
        std::uint64_t left = size;
        for (std::size_t first = 0; first < count; first += kPartsAtOnce) {
            const std::size_t group = std::min(kPartsAtOnce, count - first);
            const auto parts = TRY(detail::read_pieces(*source, blob.blob.digest, group, part, left));
            TRY(parallel_for(group, kPartsAtOnce, [&](std::size_t i) -> Result<> {
                detail::Call call;
                call.method = http::Method::put;
                call.path = path_of(key);
                call.query = {{"partNumber", std::to_string(first + i + 1)}, {"uploadId", upload_id}};
                call.body = parts[i];
                call.payload_sha256 = codec::sha256_of(*parts[i]).hex();
                http::Response response = TRY_CONTEXT(caller_.send(call, stop), "{}", what("put", key));
                if (response.status != 200) return refused(response, what("put", key));
                etags[first + i] = response.headers.find("ETag").value_or("");
                return {};
            }));
            if (blob.on_progress) blob.on_progress(std::min(size, (first + group) * part));
        }
        return complete_upload(key, upload_id, etags, stop);
    };
    auto done = upload();
    if (!done) abort_upload(key, upload_id);
    return done;
}

Result<> S3Store::touch(const std::string& key, std::uint64_t size, const Stop& stop) {
    std::string source = http::percent_encode(config_.bucket) + "/" + detail::path_text(key);
    // Some servers leave an encoded colon as it is, and none minds a plain one.
    for (std::size_t at = 0; (at = source.find("%3A", at)) != std::string::npos;) source.replace(at, 3, ":");
    const auto copy = [&](detail::Call call) -> Result<std::string> {
        call.method = http::Method::put;
        call.path = path_of(key);
        call.headers.set("x-amz-copy-source", source);
        http::Response response = TRY_CONTEXT(caller_.send(call, stop), "{}", what("renew", key));
        if (response.status != 200) return refused(response, what("renew", key));
        const std::string answer = TRY(read_all(*response.body, 1 << 20));
        if (const std::string code = detail::xml_value(answer, "Code"); !code.empty()) {
            return detail::error_of({.status = 500, .code = code, .message = detail::xml_value(answer, "Message")},
                                    what("renew", key));
        }
        return detail::xml_value(answer, "ETag");
    };
    if (size < kMaxCopyBytes) {
        detail::Call call;
        call.headers.set("x-amz-metadata-directive", "REPLACE");
        call.headers.set("x-amz-meta-updated-at", format_rfc3339(clock_.now()));
        TRY(copy(std::move(call)));
        return {};
    }
    const std::string upload_id = TRY(begin_upload(key, stop));
    const auto copy_parts = [&]() -> Result<> {
        std::vector<std::string> etags;
        for (std::uint64_t at = 0; at < size; at += kMaxCopyBytes) {
            detail::Call call;
            call.query = {{"partNumber", std::to_string(etags.size() + 1)}, {"uploadId", upload_id}};
            call.headers.set("x-amz-copy-source-range",
                             fmt::format("bytes={}-{}", at, std::min(at + kMaxCopyBytes, size) - 1));
            etags.push_back(TRY(copy(std::move(call))));
        }
        return complete_upload(key, upload_id, etags, stop);
    };
    auto done = copy_parts();
    if (!done) abort_upload(key, upload_id);
    return done;
}

Result<std::unique_ptr<ByteSource>> S3Store::get(const oci::Descriptor& blob, const Range& range, const Stop& stop) {
    const std::string key = blob_key(blob.digest);
    auto open = [this, key, stop](const Range& rest) -> Result<std::unique_ptr<ByteSource>> {
        detail::Call call;
        call.path = path_of(key);
        if (const std::string header = detail::range_header(rest); !header.empty()) call.headers.set("Range", header);
        http::Response response = TRY_CONTEXT(caller_.send(call, stop), "{}", what("get", key));
        if (response.status != (call.headers.find("Range") ? 206 : 200)) return refused(response, what("get", key));
        return std::move(response.body);
    };
    return detail::open_resuming(std::move(open), range, blob.size, stop);
}

Result<std::optional<std::string>> S3Store::read_text(const std::string& name, const Stop& stop) {
    const std::string key = config_.prefix + config_.manifests_prefix + name;
    detail::Call call;
    call.path = path_of(key);
    http::Response response = TRY_CONTEXT(caller_.send(call, stop), "{}", what("get", key));
    if (response.status == 404) {
        const detail::Refusal refusal = detail::refusal_of(response);
        if (refusal.code != "NoSuchBucket") return std::optional<std::string>();
        return detail::error_of(refusal, what("get", key));
    }
    if (response.status != 200) return refused(response, what("get", key));
    return std::optional(TRY_CONTEXT(read_all(*response.body, kMaxIndexBytes), "{}", what("get", key)));
}

Result<> S3Store::write_text(const std::string& name, const std::string& text, const Stop& stop) {
    const std::string key = config_.prefix + config_.manifests_prefix + name;
    detail::Call call;
    call.method = http::Method::put;
    call.path = path_of(key);
    call.headers.set("Content-Type", "application/octet-stream");
    call.payload_sha256 = codec::sha256_of(text).hex();
    call.body = std::make_shared<const std::string>(text);
    http::Response response = TRY_CONTEXT(caller_.send(call, stop), "{}", what("put", key));
    if (response.status != 200) return refused(response, what("put", key));
    return {};
}

}  // namespace cooper::cachestore
