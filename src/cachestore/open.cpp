#include "cachestore/open.hpp"

#include "base/text.hpp"
#include "cachestore/azblob_store.hpp"
#include "cachestore/client_store.hpp"
#include "cachestore/gha_store.hpp"
#include "cachestore/registry_store.hpp"
#include "cachestore/s3_store.hpp"
#include "codec/base64.hpp"
#include "frontend/git_ref.hpp"
#include "http/url.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace cooper::cachestore {

namespace {

constexpr std::string_view kDigestOf = "digest.";

Result<ManifestForm> form_of(const Spec& spec) {
    const bool oci_types = TRY(flag(spec, "oci-mediatypes", true));
    const bool as_image = TRY(flag(spec, "image-manifest", oci_types));
    if (as_image && !oci_types) return bad_input("image-manifest=true and oci-mediatypes=false exclude each other");
    if (as_image) return ManifestForm::image;
    return oci_types ? ManifestForm::oci_index : ManifestForm::docker_list;
}

Result<std::shared_ptr<CacheStore>> open_registry(const Spec& spec, Way way, const Surroundings& here) {
    const std::string ref = attribute(spec, "ref");
    if (ref.empty()) return bad_input("a cache in a registry needs ref=REGISTRY/NAME");
    oci::Reference reference = TRY(oci::Reference::parse_normalized(ref)).with_default_tag();
    const ManifestForm form = way == Way::to ? TRY(form_of(spec)) : ManifestForm::image;
    return std::shared_ptr<CacheStore>(std::make_shared<RegistryStore>(here.registry, std::move(reference), form));
}

Result<std::shared_ptr<CacheStore>> open_client(const Spec& spec, Way way, const Surroundings& here) {
    const std::string directory = attribute(spec, way == Way::to ? "dest" : "src");
    if (directory.empty()) return bad_input("a local cache needs {}=DIR", way == Way::to ? "dest" : "src");
    ManifestForm form = ManifestForm::image;
    std::map<std::string, Digest> digests;
    if (way == Way::to) {
        form = TRY(form_of(spec));
    } else {
        const std::string digest = attribute(spec, "digest");
        if (digest.empty()) return bad_input("a local cache needs the digest of its manifest");
    }
    if (const std::string digest = attribute(spec, "digest"); !digest.empty()) digests[""] = TRY(Digest::parse(digest));
    for (const auto& [key, value] : spec.attrs) {
        if (key.starts_with(kDigestOf)) digests[key.substr(kDigestOf.size())] = TRY(Digest::parse(value));
    }
    return std::shared_ptr<CacheStore>(
        std::make_shared<ClientStore>(here.session, "local:" + directory, std::move(digests), form));
}

// An attribute, else a variable, else a value; an attribute that is there and empty is empty.
std::string attribute_or(const Spec& spec, const std::string& name, const std::string& otherwise) {
    const auto found = spec.attrs.find(name);
    return found == spec.attrs.end() ? otherwise : found->second;
}

Result<std::int64_t> positive(const Spec& spec, const std::string& name, std::int64_t otherwise, std::int64_t most) {
    const std::string value = attribute(spec, name);
    if (value.empty()) return otherwise;
    const auto number = parse_int(value);
    if (!number || *number < 1) return bad_input("{} must be a positive integer, not {}", name, quoted(value));
    return std::min(*number, most);
}

// timeout: how long nothing may come before a connection is given up.
Result<detail::CallLimits> limits_of(const Spec& spec) {
    detail::CallLimits limits;
    if (const std::string timeout = attribute(spec, "timeout"); !timeout.empty()) {
        const auto value = TRY_CONTEXT(duration(timeout), "timeout");
        if (value < std::chrono::seconds(1)) return bad_input("timeout={} is less than a second", timeout);
        limits.idle_timeout = std::min(limits.idle_timeout, std::chrono::duration_cast<std::chrono::seconds>(value));
        limits.all_attempts = value;
    }
    return limits;
}

Result<std::shared_ptr<CacheStore>> open_s3(const Spec& spec, const Surroundings& here) {
    S3Config config;
    config.bucket = attribute_or(spec, "bucket", here.environment("AWS_BUCKET"));
    if (config.bucket.empty()) return bad_input("bucket ($AWS_BUCKET) not set for s3 cache");
    config.region = attribute_or(spec, "region", here.environment("AWS_REGION"));
    if (config.region.empty()) return bad_input("region ($AWS_REGION) not set for s3 cache");
    config.prefix = attribute(spec, "prefix");
    config.manifests_prefix = attribute_or(spec, "manifests_prefix", config.manifests_prefix);
    config.blobs_prefix = attribute_or(spec, "blobs_prefix", config.blobs_prefix);
    config.names = TRY(cache_names(attribute(spec, "name")));
    // What is no duration is passed over, as BuildKit does.
    if (const auto age = duration(attribute(spec, "touch_refresh")))
        config.touch_refresh = std::chrono::duration_cast<std::chrono::seconds>(*age);
    config.endpoint = attribute(spec, "endpoint_url");
    config.path_style = frontend::parse_go_bool(attribute(spec, "use_path_style")).value_or(false);
    config.upload_parallelism = static_cast<std::size_t>(TRY(positive(spec, "upload_parallelism", 4, 64)));
    config.limits = TRY(limits_of(spec));
    config.limits.attempts = static_cast<int>(TRY(positive(spec, "retry_max_attempts", 4, 20)));
    if (const std::string mode = attribute(spec, "retry_mode");
        !mode.empty() && mode != "standard" && mode != "adaptive")
        return bad_input("retry_mode must be \"standard\" or \"adaptive\", not {}", quoted(mode));
    config.credentials = {.access_key_id = attribute(spec, "access_key_id"),
                          .secret_access_key = attribute(spec, "secret_access_key"),
                          .session_token = attribute(spec, "session_token")};
    if (config.credentials.access_key_id.empty() || config.credentials.secret_access_key.empty())
        config.credentials = TRY(find_aws_credentials(here.environment));
    return S3Store::open(std::move(config), here.client, here.clock);
}

Result<std::shared_ptr<CacheStore>> open_azblob(const Spec& spec, const Surroundings& here) {
    const auto setting = [&](const char* name, const char* variable) {
        return attribute_or(spec, name, here.environment(variable));
    };
    AzblobConfig config;
    config.account_url = setting("account_url", "BUILDKIT_AZURE_STORAGE_ACCOUNT_URL");
    if (config.account_url.empty())
        return bad_input("account_url ($BUILDKIT_AZURE_STORAGE_ACCOUNT_URL) not set for azblob cache");
    config.key.account = setting("account_name", "BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME");
    if (config.key.account.empty()) {
        const http::Url url = TRY_CONTEXT(http::Url::parse(config.account_url), "account_url");
        config.key.account = url.host.substr(0, url.host.find('.'));
    }
    if (const std::string container = setting("container", "BUILDKIT_AZURE_STORAGE_CONTAINER"); !container.empty())
        config.container = container;
    config.prefix = setting("prefix", "BUILDKIT_AZURE_STORAGE_PREFIX");
    config.manifests_prefix = attribute_or(spec, "manifests_prefix", config.manifests_prefix);
    config.blobs_prefix = attribute_or(spec, "blobs_prefix", config.blobs_prefix);
    config.names = TRY(cache_names(attribute(spec, "name")));
    if (const std::string key = attribute(spec, "secret_access_key"); !key.empty()) {
        const auto bytes = codec::base64_decode(key);
        if (!bytes || bytes->empty()) return bad_input("secret_access_key of azblob is no base64");
        config.key.key = *bytes;
    }
    config.limits = TRY(limits_of(spec));
    return AzblobStore::open(std::move(config), here.client, here.clock);
}

Result<std::shared_ptr<CacheStore>> open_gha(const Spec& spec, const Surroundings& here) {
    GhaConfig config;
    config.token = attribute(spec, "token");
    const std::string url_v2 = attribute(spec, "url_v2");
    const std::string version = attribute(spec, "version");
    config.url = url_v2.empty() && version == "2" ? attribute(spec, "url") : url_v2;
    if (config.token.empty() || (config.url.empty() && attribute(spec, "url").empty())) {
        return bad_input("{} not set for gha cache", config.token.empty() ? "token" : "url_v2")
            .with_hint(
                "a job of GitHub Actions does not pass ACTIONS_RUNTIME_TOKEN and ACTIONS_RESULTS_URL to its commands: "
                "export them in a step before");
    }
    if (config.url.empty() || (!version.empty() && version != "2")) {
        return bad_input("gha cache: version 1 of the protocol is not spoken").with_hint("set url_v2");
    }
    config.scope = attribute_or(spec, "scope", config.scope);
    config.limits = TRY(limits_of(spec));
    config.limits.attempts = 20;
    return GhaStore::open(std::move(config), here.client, here.clock);
}

}  // namespace

Result<std::chrono::milliseconds> duration(const std::string& text) {
    static constexpr std::pair<std::string_view, double> kUnits[] = {
        {"ns", 1e-6}, {"us", 1e-3}, {"µs", 1e-3}, {"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}};
    std::string_view rest = text;
    double total = 0;
    bool any = false;
    while (!rest.empty()) {
        double number = 0;
        const auto [end, error] =
            std::from_chars(rest.data(), rest.data() + rest.size(), number, std::chars_format::fixed);
        if (error != std::errc() || number < 0 || number > 1e12) break;
        rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
        const std::size_t length = std::min(rest.size(), rest.find_first_of("0123456789."));
        const auto* unit =
            std::ranges::find(kUnits, rest.substr(0, length), &std::pair<std::string_view, double>::first);
        if (unit == std::end(kUnits)) break;
        total += number * unit->second;
        rest.remove_prefix(length);
        any = true;
    }
    if (!any || !rest.empty() || total > 1e13)
        return bad_input("{} is no duration", quoted(text)).with_hint("as in 1h30m");
    return std::chrono::milliseconds(static_cast<std::int64_t>(total));
}

std::string attribute(const Spec& spec, const std::string& name) {
    const auto found = spec.attrs.find(name);
    return found == spec.attrs.end() ? std::string() : found->second;
}

Result<bool> flag(const Spec& spec, const std::string& name, bool otherwise) {
    const std::string value = attribute(spec, name);
    if (value.empty()) return otherwise;
    const auto parsed = frontend::parse_go_bool(value);
    if (!parsed) return bad_input("cache attribute {}={} is neither true nor false", name, quoted(value));
    return *parsed;
}

Result<std::uint64_t> byte_size(const std::string& text) {
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    std::string unit = to_upper(text.substr(static_cast<std::size_t>(end - text.data())));
    if (unit.ends_with('B')) unit.pop_back();
    double base = 1000;
    if (unit.ends_with('I')) {
        base = 1024;
        unit.pop_back();
    }
    const std::size_t power = unit.empty() ? 0 : std::string_view("KMGT").find(unit) + 1;
    if (error != std::errc() || number < 0 || unit.size() > 1 || (power == 0) != unit.empty())
        return bad_input("{} is no size", quoted(text)).with_hint("as in 500MB");
    number *= std::pow(base, static_cast<double>(power));
    if (number > 1e18) return bad_input("{} is too big", quoted(text));
    return static_cast<std::uint64_t>(number);
}

Result<Budget> budget_of(const Spec& spec) {
    Budget budget;
    const std::string text = attribute(spec, "budget");
    if (text.empty()) return budget;
    if (const auto time = duration(text)) {
        budget.time = *time;
    } else if (const auto bytes = byte_size(text)) {
        budget.bytes = *bytes;
    } else {
        return bad_input("a cache's budget {} is neither a size nor a duration", quoted(text))
            .with_hint("as in 500MB or 2m");
    }
    return budget;
}

Result<> check_export_attributes(const Spec& spec) {
    TRY(budget_of(spec));
    TRY(flag(spec, "on-failure", false));
    TRY(flag(spec, "reasons", true));
    return {};
}

std::string process_environment(const std::string& name) {
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? "" : value;
}

void add_client_attributes(Spec& spec, const std::function<std::string(const std::string& name)>& environment) {
    if (spec.type == "gha") {
        const auto fill = [&](const char* name, const char* variable) {
            if (spec.attrs.contains(name)) return;
            if (std::string value = environment(variable); !value.empty()) spec.attrs[name] = std::move(value);
        };
        fill("token", "ACTIONS_RUNTIME_TOKEN");
        if (!spec.attrs.contains("url_v2") && !spec.attrs.contains("url") &&
            frontend::parse_go_bool(environment("ACTIONS_CACHE_SERVICE_V2")).value_or(false))
            fill("url_v2", "ACTIONS_RESULTS_URL");
        if (!spec.attrs.contains("url_v2")) fill("url", "ACTIONS_CACHE_URL");
    }
    if (spec.type == "s3") {
        if (spec.attrs.contains("access_key_id") || spec.attrs.contains("secret_access_key")) return;
        const auto found = find_aws_credentials(environment);
        if (!found) return;  // the daemon may have its own
        spec.attrs["access_key_id"] = found->access_key_id;
        spec.attrs["secret_access_key"] = found->secret_access_key;
        if (!found->session_token.empty()) spec.attrs["session_token"] = found->session_token;
    }
}

Result<std::shared_ptr<CacheStore>> open_store(const Spec& spec, Way way, const Surroundings& here) {
    if (spec.type == "registry") return open_registry(spec, way, here);
    if (spec.type == "local") return open_client(spec, way, here);
    if (spec.type == "s3") return open_s3(spec, here);
    if (spec.type == "azblob") return open_azblob(spec, here);
    if (spec.type == "gha") return open_gha(spec, here);
    if (spec.type == "inline" && way == Way::from) {
        return bad_input("an inline cache is imported from its image").with_hint("type=registry,ref=IMAGE");
    }
    return bad_input("unknown cache {}: {}", way == Way::to ? "exporter" : "importer", quoted(spec.type))
        .with_hint(fmt::format("types: {}", join(way == Way::to ? kTypesTo : kTypesFrom, ", ")));
}

}  // namespace cooper::cachestore
