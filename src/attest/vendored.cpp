// What NuGet and Composer leave beside a program.
#include "attest/detail/json_text.hpp"
#include "attest/packages.hpp"

#include <algorithm>

namespace cooper::attest {

std::vector<Package> parse_dotnet_deps(std::string_view text) {
    std::vector<Package> out;
    const auto json = detail::parse_json(text);
    const auto libraries = json.find("libraries");
    if (libraries == json.end() || !libraries->is_object()) return out;
    for (const auto& [key, library] : libraries->items()) {
        if (out.size() >= kMaxPackages) break;
        // Projects are the program itself.
        const std::string type = detail::text_of(library, "type");
        if (type != "package" && type != "runtimepack") continue;
        const auto [name, version] = cut(std::string_view(key).substr(0, kMaxField), '/');
        static constexpr std::string_view kPack = "runtimepack.";
        const bool pack = type == "runtimepack" && name.starts_with(kPack);
        Package package = detail::package_of("nuget", std::string(pack ? name.substr(kPack.size()) : name),
                                             std::string(version.value_or("")));
        if (!package.name.empty() && !package.version.empty()) out.push_back(std::move(package));
    }
    return out;
}

std::vector<Package> parse_composer(std::string_view text) {
    std::vector<Package> out;
    // Composer 1 wrote the list alone.
    const bool list = trim(text).starts_with('[');
    const auto json = detail::parse_json(list ? fmt::format("{{\"packages\":{}}}", text) : std::string(text));
    const auto packages = json.find("packages");
    if (packages == json.end() || !packages->is_array()) return out;
    for (const auto& one : *packages) {
        if (out.size() >= kMaxPackages) break;
        Package package = detail::package_of("composer", detail::text_of(one, "name"), detail::text_of(one, "version"));
        if (const auto slash = package.name.find('/'); slash != std::string::npos) {
            package.space = package.name.substr(0, slash);
            package.name.erase(0, slash + 1);
        }
        if (package.name.empty()) continue;
        const auto licenses = one.find("license");
        if (licenses != one.end() && licenses->is_array()) {
            std::vector<std::string> words;
            for (const auto& license : *licenses) {
                if (license.is_string() && words.size() < 20) words.push_back(license.get<std::string>());
            }
            package.license = join(words, " OR ").substr(0, kMaxField);
        }
        out.push_back(std::move(package));
    }
    return out;
}

}  // namespace cooper::attest
