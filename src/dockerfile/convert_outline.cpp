#include "dockerfile/convert_outline.hpp"

#include <algorithm>
#include <utility>

namespace cooper::dockerfile {

namespace {

class Merger {
public:
    explicit Merger(const OutlineScope& global) : global_(global) {}

    Outline run(const std::vector<const OutlineScope*>& scopes) {
        for (const OutlineScope* scope : scopes) {
            take_args(*scope);
            take(scope->secrets, out_.secrets, secrets_);
            take(scope->ssh, out_.ssh, ssh_);
        }
        sort(out_.args);
        sort(out_.secrets);
        sort(out_.ssh);
        return std::move(out_);
    }

private:
    void take_args(const OutlineScope& scope) {
        std::vector<std::string> open(scope.used.begin(), scope.used.end());
        std::set<std::string> seen(scope.used);
        while (!open.empty()) {
            const std::string name = std::move(open.back());
            open.pop_back();
            const OutlineScope::Arg* arg = find(scope, name);
            if (arg == nullptr) continue;  // an automatic one
            for (const std::string& use : arg->uses) {
                if (seen.insert(use).second) open.push_back(use);
            }
            if (args_.insert(name).second) out_.args.push_back(arg->arg);
        }
    }

    [[nodiscard]] const OutlineScope::Arg* find(const OutlineScope& scope, const std::string& name) const {
        if (const auto own = scope.args.find(name); own != scope.args.end()) return &own->second;
        const auto found = global_.args.find(name);
        return found == global_.args.end() ? nullptr : &found->second;
    }

    static void take(const std::map<std::string, OutlineMount>& from, std::vector<OutlineMount>& to,
                     std::set<std::string>& seen) {
        for (const auto& [id, mount] : from) {
            if (seen.insert(id).second) to.push_back(mount);
        }
    }

    template <class Item>
    static void sort(std::vector<Item>& items) {
        std::ranges::sort(items, [](const Item& a, const Item& b) {
            return std::pair(a.lines.first, std::string_view(a.name)) <
                   std::pair(b.lines.first, std::string_view(b.name));
        });
    }

    const OutlineScope& global_;
    Outline out_;
    std::set<std::string> args_;
    std::set<std::string> secrets_;
    std::set<std::string> ssh_;
};

}  // namespace

void OutlineScope::add_arg(const ArgCommand::Arg& given, std::string value, const Lines& lines,
                           std::set<std::string> uses) {
    if (uses.erase(given.key) > 0) {
        // "ARG a=$a-x": stands on what the earlier one stood on.
        if (const auto old = args.find(given.key); old != args.end()) {
            uses.insert(old->second.uses.begin(), old->second.uses.end());
        }
    }
    args[given.key] = {{given.key, given.description, std::move(value), lines}, std::move(uses)};
}

void OutlineScope::add_mount(std::map<std::string, OutlineMount>& mounts, const std::string& id, bool required,
                             const Lines& lines) {
    mounts.try_emplace(id, OutlineMount{id, required, lines});
}

Outline merge_outline(const OutlineScope& global, const std::vector<const OutlineScope*>& scopes) {
    return Merger(global).run(scopes);
}

}  // namespace cooper::dockerfile
