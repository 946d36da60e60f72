// What a registry's answer means as an Error.
#pragma once

#include "base/result.hpp"
#include "http/message.hpp"

#include <string>

namespace cooper::registry::detail {

// what: "pull docker.io/library/x:1". Reads (a little of) the body for the registry's own words.
[[nodiscard]] Error error_of(http::Response& response, const std::string& what, const std::string& domain);
// "code: message" of the first entry of the distribution spec's error document; "" when it is none.
[[nodiscard]] std::string registry_message(std::string_view body);

}  // namespace cooper::registry::detail
