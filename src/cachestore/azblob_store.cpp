#include "cachestore/azblob_store.hpp"

#include "base/text.hpp"
#include "http/url.hpp"

namespace cooper::cachestore {

namespace {

// As Go joins paths: empty parts and repeated slashes are dropped.
std::string joined(const std::vector<std::string>& parts) {
    std::vector<std::string> words;
    for (const auto& part : parts) {
        for (auto& word : split(part, '/')) {
            if (!word.empty() && word != ".") words.push_back(std::move(word));
        }
    }
    return join(words, "/");
}

}  // namespace

Result<std::shared_ptr<CacheStore>> AzblobStore::open(AzblobConfig config, http::Client& client, const Clock& clock) {
    const http::Url url = TRY_CONTEXT(http::Url::parse(config.account_url), "account_url");
    if (!url.userinfo.empty()) return bad_input("account_url has a user in it");
    if (config.container.empty() ||
        config.container.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-$") != std::string::npos)
        return bad_input("{} is no name of a container", quoted(config.container))
            .with_hint("want lower case letters, digits and '-'");
    for (const auto& part : {config.prefix, config.manifests_prefix, config.blobs_prefix}) {
        for (const auto& word : split(part, '/')) {
            if (word == "..") return bad_input("the prefix {} has .. in it", quoted(part));
        }
    }
    detail::Query query;
    for (const auto& part : split(url.query, '&')) {
        if (part.empty()) continue;
        const auto [name, value] = cut(part, '=');
        query[http::percent_decode(name)] = http::percent_decode(value.value_or(""));
    }
    if (config.key.key.empty() && !query.contains("sig")) {
        return fail(Code::unauthenticated, Blame::user, "no credentials for {}", url.authority())
            .with_hint("set secret_access_key, or an account_url with a shared access signature");
    }
    std::string path = url.path;
    while (path.ends_with('/')) path.pop_back();
    path += "/" + http::percent_encode(config.container);
    const std::string origin = url.scheme + "://" + url.authority();
    return std::shared_ptr<CacheStore>(
        new AzblobStore(std::move(config), client, clock, origin, std::move(path), std::move(query)));
}

AzblobStore::AzblobStore(AzblobConfig config, http::Client& client, const Clock& clock, const std::string& origin,
                         std::string path, detail::Query query)
    : ObjectStore(config.names),
      config_(std::move(config)),
      clock_(clock),
      caller_(client, origin, config_.limits,
              [this](const detail::Call& /*call*/, http::Request& request) {
                  if (config_.key.key.empty()) {
                      prepare_azure(request);
                  } else {
                      sign_azure(request, config_.key, clock_.now());
                  }
              }),
      path_(std::move(path)),
      query_(std::move(query)),
      place_(origin + path_) {}

std::string AzblobStore::path_of(std::string_view folder, const std::string& name) const {
    return path_ + "/" + detail::path_text(joined({config_.prefix, std::string(folder), name}));
}

std::string AzblobStore::what(std::string_view doing, const std::string& name) const {
    return fmt::format("{} {} in {}", doing, name, place_);
}

Error AzblobStore::refused(http::Response& response, const std::string& doing) {
    const detail::Refusal refusal = detail::refusal_of(response);
    Error error = detail::error_of(refusal, doing);
    if (refusal.status == 401 || refusal.status == 403)
        return error.with_hint("see whether account_name and secret_access_key are right");
    return error;
}

Result<> AzblobStore::make_container(const Stop& stop) {
    auto has = has_container_.lock();
    if (*has) return {};
    detail::Call call;
    call.method = http::Method::head;
    call.path = path_;
    call.query = query_;
    call.query["restype"] = "container";
    http::Response found = TRY_CONTEXT(caller_.send(call, stop), "look for {}", place_);
    if (found.status == 404) {
        call.method = http::Method::put;
        http::Response made = TRY_CONTEXT(caller_.send(call, stop), "make {}", place_);
        // 409: somebody else was quicker.
        if (made.status != 201 && made.status != 409) return refused(made, "make " + place_);
    } else if (found.status != 200) {
        return refused(found, "look for " + place_);
    }
    *has = true;
    return {};
}

Result<bool> AzblobStore::has(const Digest& blob, const Stop& stop) {
    detail::Call call;
    call.method = http::Method::head;
    call.path = path_of(config_.blobs_prefix, blob.to_string());
    call.query = query_;
    const std::string doing = what("look for", blob.to_string());
    http::Response response = TRY_CONTEXT(caller_.send(call, stop), "{}", doing);
    if (response.status == 200) return true;
    if (response.status == 404) return false;
    return refused(response, doing);
}

Result<Put> AzblobStore::put(const PutBlob& blob, const Stop& stop) {
    TRY(make_container(stop));
    if (TRY(has(blob.blob.digest, stop))) return Put::existed;
    const std::string name = blob.blob.digest.to_string();
    const bool written = TRY(put_azure_blob(caller_, path_of(config_.blobs_prefix, name), query_, blob, IfThere::keep,
                                            config_.block_bytes, what("put", name), stop));
    return written ? Put::uploaded : Put::existed;
}

Result<std::unique_ptr<ByteSource>> AzblobStore::get(const oci::Descriptor& blob, const Range& range,
                                                     const Stop& stop) {
    const std::string name = blob.digest.to_string();
    return get_azure_blob(caller_, path_of(config_.blobs_prefix, name), query_, range, blob.size, what("get", name),
                          stop);
}

Result<std::optional<std::string>> AzblobStore::read_text(const std::string& name, const Stop& stop) {
    const auto source =
        get_azure_blob(caller_, path_of(config_.manifests_prefix, name), query_, kWhole, 0, what("get", name), stop);
    if (!source && source.error().code() == Code::not_found) return std::optional<std::string>();
    if (!source) return source.error();
    return std::optional(TRY_CONTEXT(read_all(**source, kMaxIndexBytes), "{}", what("get", name)));
}

Result<> AzblobStore::write_text(const std::string& name, const std::string& text, const Stop& stop) {
    TRY(make_container(stop));
    PutBlob blob;
    blob.blob.size = text.size();
    blob.open = [&text]() -> Result<std::unique_ptr<ByteSource>> { return std::make_unique<StringSource>(text); };
    TRY(put_azure_blob(caller_, path_of(config_.manifests_prefix, name), query_, blob, IfThere::replace,
                       config_.block_bytes, what("put", name), stop));
    return {};
}

}  // namespace cooper::cachestore
