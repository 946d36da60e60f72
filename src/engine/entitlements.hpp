// What a build was given the right to (`--allow`): network.host, security.insecure, device,
// device=NAME[,alias=NAME]. Values; pure but for the CDI descriptions it is handed.
#pragma once

#include "base/result.hpp"
#include "llb/op.hpp"
#include "run/cdi.hpp"

#include <map>
#include <string>
#include <vector>

namespace cooper::engine {

class Entitlements {
public:
    // What is not known is bad input with what is near.
    [[nodiscard]] static Result<Entitlements> parse(const std::vector<std::string>& allowed);

    // permission_denied for an operation that wants more, with `step` in the message.
    [[nodiscard]] Result<> check(llb::NetMode network, llb::SecurityMode security, const std::string& step) const;
    // The devices a step gets, by qualified names: those it asks for, found and allowed.
    [[nodiscard]] Result<std::vector<std::string>> devices(const std::vector<llb::CdiDevice>& wanted,
                                                           const run::CdiDevices& known, const std::string& step) const;

private:
    bool network_host_ = false;
    bool security_insecure_ = false;
    bool all_devices_ = false;
    std::map<std::string, std::string> aliases_;  // as the Dockerfile says: what is meant
    std::vector<std::string> devices_;
};

}  // namespace cooper::engine
