#include "cachestore/gha_store.hpp"

#include "base/text.hpp"
#include "cachestore/azure_blob.hpp"
#include "codec/base64.hpp"
#include "codec/go_json.hpp"
#include "codec/sha256.hpp"
#include "http/url.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace cooper::cachestore {

namespace {

constexpr std::string_view kService = "twirp/github.actions.results.api.v1.CacheService/";
constexpr std::string_view kFormat = "1";  // of the keys
constexpr std::size_t kMaxAnswer = 64u << 10;
constexpr std::size_t kMaxScopes = 50;
constexpr int kMaxNumbers = 1000;  // of an index, tried one after the other
constexpr int kWriteBit = 2;

// GitHub tells caches of different programs apart by this; it is that of BuildKit's library.
std::string version() { return codec::sha256_of("|go-actionscache-1.0").hex(); }

std::string blob_key(const Digest& blob) { return fmt::format("buildkit-blob-{}-{}", kFormat, blob.to_string()); }

std::string text_field(const nlohmann::json& json, const char* name) {
    const auto found = json.find(name);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// An answer that says ok; nullopt when it says that it is not.
Result<std::optional<nlohmann::json>> answer_of(const std::string& text, const std::string& what) {
    nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object()) return fail(Code::unavailable, Blame::world, "{}: the answer is no JSON", what);
    const auto ok = json.find("ok");
    if (ok == json.end() || !ok->is_boolean() || !ok->get<bool>()) return std::optional<nlohmann::json>();
    return std::optional(std::move(json));
}

}  // namespace

Result<std::vector<GhaStore::Scope>> scopes_of_token(const std::string& token, Timestamp now) {
    const auto parts = split(token, '.');
    const auto bad = [](std::string_view why) {
        return bad_input("the token of the GitHub cache {}", why).with_hint("it is ACTIONS_RUNTIME_TOKEN of the job");
    };
    if (parts.size() != 3) return bad("is no JSON web token");
    const auto claims_text = codec::base64url_decode(parts[1]);
    if (!claims_text || claims_text->size() > kMaxAnswer) return bad("is no JSON web token");
    const auto claims = nlohmann::json::parse(*claims_text, nullptr, false);
    if (!claims.is_object()) return bad("is no JSON web token");
    const auto expires = claims.find("exp");
    if (expires != claims.end() && expires->is_number()) {
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
        if (expires->get<double>() < static_cast<double>(seconds)) return bad("has expired");
    }
    const auto access = nlohmann::json::parse(text_field(claims, "ac"), nullptr, false);
    if (!access.is_array() || access.size() > kMaxScopes) return bad("names no scopes");
    std::vector<GhaStore::Scope> scopes;
    for (const auto& one : access) {
        if (!one.is_object()) return bad("names no scopes");
        const auto permission = one.find("Permission");
        const int bits = permission != one.end() && permission->is_number_integer() ? permission->get<int>() : 0;
        scopes.push_back({.name = text_field(one, "Scope"), .writable = (bits & kWriteBit) != 0});
    }
    return scopes;
}

Result<std::shared_ptr<CacheStore>> GhaStore::open(GhaConfig config, http::Client& client, const Clock& clock) {
    const http::Url url = TRY_CONTEXT(http::Url::parse(config.url), "url of the GitHub cache");
    std::vector<Scope> scopes = TRY(scopes_of_token(config.token, clock.now()));
    std::string path = url.path;
    if (!path.ends_with('/')) path += "/";
    const std::string origin = url.scheme + "://" + url.authority();
    return std::shared_ptr<CacheStore>(
        new GhaStore(std::move(config), client, clock, origin, std::move(path), std::move(scopes)));
}

GhaStore::GhaStore(GhaConfig config, http::Client& client, const Clock& clock, std::string origin, std::string path,
                   std::vector<Scope> scopes)
    : config_(std::move(config)),
      client_(client),
      clock_(clock),
      caller_(client, std::move(origin), config_.limits,
              [this](const detail::Call& /*call*/, http::Request& request) {
                  request.headers.set("Authorization", "Bearer " + config_.token);
              }),
      path_(std::move(path)),
      scopes_(std::move(scopes)),
      place_("the GitHub cache (" + config_.scope + ")") {}

std::string GhaStore::index_key(const std::string& name, const std::string& scope) const {
    return fmt::format("index-{}{}-{}-{}", config_.scope, name.empty() ? "" : "." + name, kFormat,
                       codec::sha256_of(scope).hex().substr(0, 8));
}

detail::Caller GhaStore::storage(const std::string& origin) const {
    return detail::Caller(client_, origin, config_.limits,
                          [](const detail::Call& /*call*/, http::Request& request) { prepare_azure(request); });
}

Result<std::optional<std::string>> GhaStore::call(const std::string& method, const std::string& body,
                                                  const Stop& stop) {
    detail::Call call;
    call.method = http::Method::post;
    call.path = path_ + std::string(kService) + method;
    call.headers.set("Content-Type", "application/json");
    call.body = std::make_shared<const std::string>(body);
    const std::string what = fmt::format("{} of {}", method, place_);
    http::Response response = TRY_CONTEXT(caller_.send(call, stop), "{}", what);
    if (response.status == 200) return std::optional(TRY(read_all(*response.body, kMaxAnswer)));
    const detail::Refusal refusal = detail::refusal_of(response);
    if (refusal.code == "already_exists" || refusal.status == 409) return std::optional<std::string>();
    Error error = detail::error_of(refusal, what);
    if (refusal.status == 401 || refusal.status == 403)
        return error.with_hint("the token may have expired, or not allow this scope");
    return error;
}

Result<std::optional<GhaStore::Entry>> GhaStore::find(const std::string& key, const Stop& stop) {
    codec::GoJson body;
    body.begin_object().field("key", key).key("restore_keys").strings(std::vector<std::string>{key});
    body.field("version", version()).end_object();
    const auto text = TRY(call("GetCacheEntryDownloadURL", std::move(body).take(), stop));
    if (!text) return std::optional<Entry>();
    const auto answer = TRY(answer_of(*text, place_));
    if (!answer) return std::optional<Entry>();
    Entry entry{.key = text_field(*answer, "matched_key"), .url = text_field(*answer, "signed_download_url")};
    if (!entry.key.starts_with(key) || entry.url.empty()) return std::optional<Entry>();
    return std::optional(std::move(entry));
}

Result<std::optional<std::string>> GhaStore::reserve(const std::string& key, const Stop& stop) {
    codec::GoJson body;
    body.begin_object().field("key", key).field("version", version()).end_object();
    const auto text = TRY(call("CreateCacheEntry", std::move(body).take(), stop));
    if (!text) return std::optional<std::string>();
    const auto answer = TRY(answer_of(*text, place_));
    if (!answer) return std::optional<std::string>();
    std::string url = text_field(*answer, "signed_upload_url");
    if (url.empty()) return fail(Code::unavailable, Blame::world, "{} names no place for {}", place_, key);
    return std::optional(std::move(url));
}

namespace {

struct SignedUrl {
    std::string origin;
    std::string path;
    detail::Query query;
};

Result<SignedUrl> parse_signed(const std::string& text) {
    const http::Url url = TRY(http::Url::parse(text));
    SignedUrl out{.origin = url.scheme + "://" + url.authority(), .path = url.path, .query = {}};
    for (const auto& part : split(url.query, '&')) {
        if (part.empty()) continue;
        const auto [name, value] = cut(part, '=');
        out.query[http::percent_decode(name)] = http::percent_decode(value.value_or(""));
    }
    return out;
}

}  // namespace

Result<> GhaStore::upload(const std::string& key, const std::string& url, const PutBlob& blob, const Stop& stop) {
    const SignedUrl target = TRY(parse_signed(url));
    TRY(put_azure_blob(storage(target.origin), target.path, target.query, blob, IfThere::replace, kAzureBlockBytes,
                       fmt::format("put {} in {}", key, place_), stop));
    codec::GoJson body;
    body.begin_object().field("key", key).key("size_bytes").unsigned_integer(blob.blob.size);
    body.field("version", version()).end_object();
    const auto text = TRY(call("FinalizeCacheEntryUpload", std::move(body).take(), stop));
    if (!text || !TRY(answer_of(*text, place_)))
        return fail(Code::unavailable, Blame::world, "{} did not take {}", place_, key);
    return {};
}

Result<std::unique_ptr<ByteSource>> GhaStore::download(const Entry& entry, const Range& range, std::uint64_t size_bytes,
                                                       const Stop& stop) {
    const SignedUrl source = TRY(parse_signed(entry.url));
    return get_azure_blob(storage(source.origin), source.path, source.query, range, size_bytes,
                          fmt::format("get {} of {}", entry.key, place_), stop);
}

Result<std::string> GhaStore::writable_scope() const {
    const auto writable = std::ranges::find_if(scopes_.rbegin(), scopes_.rend(), &Scope::writable);
    if (writable == scopes_.rend())
        return fail(Code::permission_denied, Blame::user, "the token of {} does not allow to write", place_);
    return writable->name;
}

Result<bool> GhaStore::has(const Digest& blob, const Stop& stop) { return TRY(find(blob_key(blob), stop)).has_value(); }

Result<Put> GhaStore::put(const PutBlob& blob, const Stop& stop) {
    const std::string key = blob_key(blob.blob.digest);
    if (TRY(find(key, stop))) return Put::existed;
    TRY(writable_scope());
    const auto url = TRY(reserve(key, stop));
    if (!url) return Put::existed;  // somebody else is writing it
    TRY(upload(key, *url, blob, stop));
    return Put::uploaded;
}

Result<std::unique_ptr<ByteSource>> GhaStore::get(const oci::Descriptor& blob, const Range& range, const Stop& stop) {
    const auto entry = TRY(find(blob_key(blob.digest), stop));
    if (!entry) return fail(Code::not_found, Blame::world, "{} has no {}", place_, blob.digest.to_string());
    return download(*entry, range, blob.size, stop);
}

Result<std::vector<Index>> GhaStore::get_indexes(const std::string& name, const Stop& stop) {
    TRY(check_index_name(name));
    std::vector<Index> found;
    for (const auto& scope : scopes_) {
        const auto entry = TRY(find(index_key(name, scope.name) + "#", stop));
        if (!entry) continue;
        const auto source = TRY(download(*entry, kWhole, 0, stop));
        Index index;
        index.text = TRY_CONTEXT(read_all(*source, kMaxIndexBytes), "{}", place_);
        found.push_back(std::move(index));
    }
    if (found.empty()) return fail(Code::not_found, Blame::user, "{} has nothing yet", place_);
    return found;
}

Result<oci::Descriptor> GhaStore::put_index(const std::string& name, const Index& index, const Stop& stop) {
    TRY(check_index_name(name));
    const std::string prefix = index_key(name, TRY(writable_scope())) + "#";
    PutBlob blob;
    blob.blob.media_type = index.media_type;
    blob.blob.digest = codec::sha256_of(index.text);
    blob.blob.size = index.text.size();
    blob.open = [&index]() -> Result<std::unique_ptr<ByteSource>> {
        return std::make_unique<StringSource>(index.text);
    };
    std::chrono::milliseconds waited{0};
    for (int number = 0, tries = 0; tries < kMaxNumbers; ++tries) {
        if (const auto newest = TRY(find(prefix, stop))) {
            const auto last = parse_int(newest->key.substr(prefix.size()));
            if (!last || *last < 0 || *last > 1'000'000'000)
                return fail(Code::failed_precondition, Blame::world, "{}: {} has no number", place_, newest->key);
            number = std::max(number, static_cast<int>(*last));
        }
        const std::string key = prefix + std::to_string(number + 1);
        if (const auto url = TRY(reserve(key, stop))) {
            TRY(upload(key, *url, blob, stop));
            return blob.blob;
        }
        // Somebody else has this number and is not ready; who has died holds it for ever.
        if (waited < config_.index_wait) {
            waited += config_.index_poll;
            TRY(http::wait_for(config_.index_poll, stop));
        } else {
            ++number;
        }
    }
    return fail(Code::aborted, Blame::world, "{} is written by too many at once", place_);
}

}  // namespace cooper::cachestore
