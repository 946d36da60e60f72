#include "snapshot/mount_plan.hpp"

#include <algorithm>

namespace cooper::snapshot {

namespace {

// mount(2) copies one page of options, its last byte for the terminator.
constexpr std::size_t kMaxOptionBytes = 4095;

// overlayfs splits lowerdir at ':' and options at ','; both can be escaped with a backslash.
std::string escaped(const std::string& path) {
    std::string out;
    for (const char c : path) {
        if (c == ':' || c == ',' || c == '\\') out += '\\';
        out += c;
    }
    return out;
}

}  // namespace

Result<OverlayPlan> plan_overlay(const std::string& lower_base, const std::vector<std::string>& layer_paths,
                                 const std::string& upper, const std::string& work) {
    if (layer_paths.empty()) return fail(Code::internal, Blame::cooper, "an overlay needs a lower directory");
    OverlayPlan plan{.lower_base = lower_base, .upper = upper, .work = work};
    const std::string prefix = lower_base.ends_with('/') ? lower_base : lower_base + "/";
    for (auto layer = layer_paths.rbegin(); layer != layer_paths.rend(); ++layer) {
        plan.lowers.push_back(layer->starts_with(prefix) ? layer->substr(prefix.size()) : *layer);
    }
    plan.options = "lowerdir=";
    for (std::size_t i = 0; i < plan.lowers.size(); ++i) {
        if (i != 0) plan.options += ':';
        plan.options += escaped(plan.lowers[i]);
    }
    if (!upper.empty()) plan.options += ",upperdir=" + escaped(upper) + ",workdir=" + escaped(work);
    if (plan.options.size() > kMaxOptionBytes) {
        return fail(Code::failed_precondition, Blame::user, "{} layers do not fit one overlay mount",
                    layer_paths.size())
            .with_hint("choose a shorter --root, or a base image with fewer layers");
    }
    return plan;
}

}  // namespace cooper::snapshot
