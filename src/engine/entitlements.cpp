#include "engine/entitlements.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <set>

namespace cooper::engine {

namespace {

Error refuse(const std::string& right, const std::string& step) {
    return fail(Code::permission_denied, Blame::user, "{} is not allowed: {}", right, step)
        .with_hint(fmt::format("add --allow {} if you trust this Dockerfile", right));
}

}  // namespace

Result<Entitlements> Entitlements::parse(const std::vector<std::string>& allowed) {
    Entitlements out;
    for (const std::string& one : allowed) {
        if (one == "network.host") {
            out.network_host_ = true;
        } else if (one == "security.insecure") {
            out.security_insecure_ = true;
        } else if (one == "device" || one == "device=") {
            out.all_devices_ = true;
        } else if (one.starts_with("device=")) {
            const std::vector<std::string> fields = split(std::string_view(one).substr(7), ',');
            std::string alias;
            for (std::size_t i = 1; i < fields.size(); ++i) {
                const auto [key, value] = cut(fields[i], '=');
                if (key != "alias" || !value || value->empty()) {
                    return bad_input("entitlement {}: unknown field {}", quoted(one), quoted(fields[i]))
                        .with_hint("write device=NAME[,alias=NAME]");
                }
                alias = *value;
            }
            if (alias.empty()) {
                out.devices_.push_back(fields.front());
            } else {
                out.aliases_[alias] = fields.front();
            }
        } else {
            const std::vector<std::string> known = {"network.host", "security.insecure", "device"};
            const auto near = nearest(one, known);
            return bad_input("unknown entitlement {}{}", quoted(one), near ? ", did you mean " + *near + "?" : "")
                .with_hint("known are " + join(known, ", "));
        }
    }
    return out;
}

Result<> Entitlements::check(llb::NetMode network, llb::SecurityMode security, const std::string& step) const {
    if (network == llb::NetMode::host && !network_host_) return refuse("network.host", step);
    if (security == llb::SecurityMode::insecure && !security_insecure_) return refuse("security.insecure", step);
    return {};
}

Result<std::vector<std::string>> Entitlements::devices(const std::vector<llb::CdiDevice>& wanted,
                                                       const run::CdiDevices& known, const std::string& step) const {
    std::set<std::string> granted;
    for (const std::string& name : devices_) {
        for (std::string& device : TRY(known.find(name))) granted.insert(std::move(device));
    }
    std::vector<std::string> out;
    for (const llb::CdiDevice& device : wanted) {
        // Who names what an alias stands for allows it, too.
        const auto alias = aliases_.find(device.name);
        const bool aliased = alias != aliases_.end();
        const std::vector<std::string> found = TRY(known.find(aliased ? alias->second : device.name));
        if (found.empty() && !device.optional) {
            const std::vector<std::string> names = known.names();
            const auto near = nearest(device.name, names);
            Error error = fail(Code::not_found, Blame::user, "required device {} is not registered{}: {}",
                               quoted(device.name), near ? ", did you mean " + *near + "?" : "", step);
            if (!known.problems().empty()) return error.with_hint("not read: " + join(known.problems(), "; "));
            return error.with_hint(names.empty() ? "no CDI device is described on this machine"
                                                 : "described are " + join(names, ", "));
        }
        for (const std::string& name : found) {
            const bool allowed = aliased || all_devices_ || granted.contains(name) || known.allows_itself(name);
            if (!allowed) return refuse("device=" + name, step);
            if (std::ranges::find(out, name) == out.end()) out.push_back(name);
        }
    }
    return out;
}

}  // namespace cooper::engine
