// What S3 asks of whoever speaks to it: credentials as AWS's own programs find them, and signatures (version 4).
#pragma once

#include "base/clock.hpp"
#include "base/result.hpp"
#include "http/message.hpp"

#include <functional>
#include <string>

namespace cooper::cachestore {

struct AwsCredentials {
    std::string access_key_id;
    std::string secret_access_key;
    std::string session_token;  // of temporary ones
};

// environment(name) is "" when a variable is not set. In this order: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with
// AWS_SESSION_TOKEN); the profile AWS_PROFILE, or "default", of AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials, then
// of AWS_CONFIG_FILE or ~/.aws/config. Nobody is asked over the network: a machine's own role is not used.
// unauthenticated when there are none.
[[nodiscard]] Result<AwsCredentials> find_aws_credentials(
    const std::function<std::string(const std::string&)>& environment);
// Of the text of a credentials file; nothing found gives empty ones.
[[nodiscard]] AwsCredentials aws_profile(std::string_view text, std::string_view profile);

struct AwsScope {
    std::string region;
    std::string service;  // "s3"
};

// Adds x-amz-date, x-amz-content-sha256, x-amz-security-token and Authorization. Every x-amz header of the request is
// signed, so these must be there before. The URL's path and query are encoded already, the query in order.
void sign_aws(http::Request& request, const AwsCredentials& credentials, const AwsScope& scope,
              const std::string& payload_sha256, Timestamp now);

}  // namespace cooper::cachestore
