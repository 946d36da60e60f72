// WWW-Authenticate: what a server wants to see before it answers. RFC 9110 section 11.6.1, with the
// parameters of Docker's token authentication (realm, service, scope, error).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::registry {

struct Challenge {
    std::string scheme;                         // lower case: "basic", "bearer"
    std::map<std::string, std::string> params;  // names in lower case

    [[nodiscard]] std::string param(const std::string& name) const;
};

// Takes one header value, which may hold several challenges. Never fails: what cannot be understood is
// left out. At most 16 challenges with 32 parameters each.
[[nodiscard]] std::vector<Challenge> parse_challenges(std::string_view header);

}  // namespace cooper::registry
