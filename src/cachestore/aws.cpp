#include "cachestore/aws.hpp"

#include "base/text.hpp"
#include "codec/sha256.hpp"
#include "http/url.hpp"
#include "sys/fd.hpp"

#include <ctime>
#include <fcntl.h>
#include <map>

namespace cooper::cachestore {

namespace {

constexpr std::size_t kMaxFile = 1u << 20;

std::string bytes_of(const Digest& digest) {
    std::string out(32, '\0');
    const auto& hex = digest.hex();
    static_cast<void>(from_hex(hex, std::span(reinterpret_cast<std::uint8_t*>(out.data()), out.size())));
    return out;
}

std::string hmac(const std::string& key, std::string_view text) { return bytes_of(codec::hmac_sha256(key, text)); }

}  // namespace

AwsCredentials aws_profile(std::string_view text, std::string_view profile) {
    AwsCredentials found;
    bool inside = false;
    for (const auto& line : split(text, '\n')) {
        std::string_view rest = trim(line);
        if (rest.empty() || rest.front() == '#' || rest.front() == ';') continue;
        if (rest.front() == '[') {
            rest.remove_prefix(1);
            if (rest.ends_with(']')) rest.remove_suffix(1);
            rest = trim(rest);
            if (rest.starts_with("profile ")) rest = trim(rest.substr(8));
            inside = rest == profile;
            continue;
        }
        if (!inside) continue;
        const auto [key, value] = cut(rest, '=');
        if (!value) continue;
        const std::string name = to_lower(trim(key));
        const std::string text_value(trim(*value));
        if (name == "aws_access_key_id") found.access_key_id = text_value;
        if (name == "aws_secret_access_key") found.secret_access_key = text_value;
        if (name == "aws_session_token") found.session_token = text_value;
    }
    return found;
}

Result<AwsCredentials> find_aws_credentials(const std::function<std::string(const std::string&)>& environment) {
    AwsCredentials found{.access_key_id = environment("AWS_ACCESS_KEY_ID"),
                         .secret_access_key = environment("AWS_SECRET_ACCESS_KEY"),
                         .session_token = environment("AWS_SESSION_TOKEN")};
    if (!found.access_key_id.empty() && !found.secret_access_key.empty()) return found;
    std::string profile = environment("AWS_PROFILE");
    if (profile.empty()) profile = "default";
    const std::string home = environment("HOME");
    for (const auto& [variable, usual] : {std::pair("AWS_SHARED_CREDENTIALS_FILE", "/.aws/credentials"),
                                          std::pair("AWS_CONFIG_FILE", "/.aws/config")}) {
        std::string path = environment(variable);
        if (path.empty() && !home.empty()) path = home + usual;
        if (path.empty()) continue;
        const sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (file.get() < 0) continue;
        const auto text = sys::read_to_end(file.get(), kMaxFile);
        if (!text) continue;
        found = aws_profile(*text, profile);
        if (!found.access_key_id.empty() && !found.secret_access_key.empty()) return found;
    }
    return fail(Code::unauthenticated, Blame::user, "no credentials for S3")
        .with_hint(
            "set access_key_id and secret_access_key, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in "
            "~/.aws/credentials");
}

void sign_aws(http::Request& request, const AwsCredentials& credentials, const AwsScope& scope,
              const std::string& payload_sha256, Timestamp now) {
    const std::time_t seconds = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
    std::tm time{};
    ::gmtime_r(&seconds, &time);
    char stamp[32];
    std::strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &time);
    const std::string date(stamp, 8);

    request.headers.set("x-amz-date", stamp);
    request.headers.set("x-amz-content-sha256", payload_sha256);
    if (!credentials.session_token.empty()) request.headers.set("x-amz-security-token", credentials.session_token);
    const auto url = http::Url::parse(request.url);
    CHECK(url);  // made by us of an origin that was parsed
    std::map<std::string, std::string> signed_headers{{"host", url->authority()}};
    for (const auto& [name, value] : request.headers.all()) {
        const std::string lower = to_lower(name);
        if (lower.starts_with("x-amz-") || lower == "range" || lower == "content-type")
            signed_headers[lower] = std::string(trim(value));
    }
    std::string canonical = fmt::format("{}\n{}\n{}\n", http::method_name(request.method), url->path, url->query);
    std::vector<std::string> names;
    for (const auto& [name, value] : signed_headers) {
        canonical += name + ":" + value + "\n";
        names.push_back(name);
    }
    const std::string list = join(names, ";");
    canonical += fmt::format("\n{}\n{}", list, payload_sha256);

    const std::string place = fmt::format("{}/{}/{}/aws4_request", date, scope.region, scope.service);
    const std::string text =
        fmt::format("AWS4-HMAC-SHA256\n{}\n{}\n{}", stamp, place, codec::sha256_of(canonical).hex());
    const std::string key = hmac(
        hmac(hmac(hmac("AWS4" + credentials.secret_access_key, date), scope.region), scope.service), "aws4_request");
    request.headers.set("Authorization",
                        fmt::format("AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}",
                                    credentials.access_key_id, place, list, codec::hmac_sha256(key, text).hex()));
}

}  // namespace cooper::cachestore
