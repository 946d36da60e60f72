#include "engine/context_files.hpp"

#include "base/text.hpp"
#include "codec/path_match.hpp"
#include "snapshot/live_dir.hpp"

#include <algorithm>
#include <unistd.h>

namespace cooper::engine {

namespace {

constexpr int kMaxDepth = 1000;

using snapshot::Directory;
using snapshot::DirectoryRef;
using snapshot::Entry;
using snapshot::Kind;

class Lister {
public:
    Lister(ContextFile which, const std::function<void(const ListedFile&)>& visit, const Stop& stop)
        : which_(which), visit_(visit), stop_(stop) {}

    // shown: the directory as a build sees it; whole: all that it has.
    Result<> list(const Directory& shown, const Directory& whole, const std::string& prefix, int depth) {
        if (depth > kMaxDepth) return bad_input("{}: directories nest too deep", prefix);
        TRY(check_stop(stop_));
        const std::vector<Entry> sent = TRY(shown.list());
        for (const Entry& entry : TRY(whole.list())) {
            const bool directory = entry.kind == Kind::directory;
            const std::string path = prefix + entry.name + (directory ? "/" : "");
            const bool in = std::binary_search(sent.begin(), sent.end(), entry,
                                               [](const Entry& a, const Entry& b) { return a.name < b.name; });
            if (in == (which_ == ContextFile::sent)) TRY(tell(whole, entry, path));
            if (in && directory) {
                const DirectoryRef child = TRY(shown.open_dir(entry.name));
                const DirectoryRef whole_child = TRY(whole.open_dir(entry.name));
                TRY(list(*child, *whole_child, path, depth + 1));
            }
        }
        return {};
    }

private:
    Result<> tell(const Directory& dir, const Entry& entry, const std::string& path) {
        ListedFile file{.path = path};
        if (entry.kind == Kind::file) file.size = TRY(dir.stat(entry)).size;
        visit_(file);
        return {};
    }

    ContextFile which_;
    const std::function<void(const ListedFile&)>& visit_;
    const Stop& stop_;
};

Result<sys::RootedDir> open_context(const std::string& context) {
    return TRY_CONTEXT(sys::RootedDir::open_host(context), "build context {}", quoted(context));
}

Result<std::string> first_bytes(const sys::RootedDir& dir, const std::string& name, std::size_t limit) {
    const sys::Fd file = TRY(dir.open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY, sys::Follow::yes, 0));
    struct stat st{};
    if (::fstat(file.get(), &st) != 0) return fail_errno(errno, name);
    if (!S_ISREG(st.st_mode)) return bad_input("not a regular file");
    std::string text(std::min<std::uint64_t>(limit, static_cast<std::uint64_t>(st.st_size)), '\0');
    std::size_t size = 0;
    while (size < text.size()) {
        const std::size_t n = TRY(sys::read_some(file.get(), std::as_writable_bytes(std::span(text).subspan(size))));
        if (n == 0) break;
        size += n;
    }
    text.resize(size);
    return text;
}

// The ignore file of a directory, when it has one of that name.
Result<bool> read_rules(const sys::RootedDir& dir, const std::string& name, std::string shown, IgnoreRules& rules) {
    const auto text = first_bytes(dir, name, codec::kMaxIgnoreFileBytes + 1);
    if (!text && text.error().code() == Code::not_found) return false;
    if (!text) return text.error().with_context(shown);
    TRY(codec::read_ignore_file(*text, shown));
    rules = {.file = std::move(shown), .lines = codec::read_ignore_lines(*text)};
    return true;
}

}  // namespace

Result<IgnoreRules> find_ignore_rules(const std::string& context, const std::string& dockerfile) {
    const sys::RootedDir root = TRY(open_context(context));
    IgnoreRules rules;
    std::string file = dockerfile;
    // As for a build: from the working directory first, then in the context.
    if (file.empty())
        file = codec::join_path(context, "Dockerfile");
    else if (::access(file.c_str(), F_OK) != 0 && !file.starts_with('/'))
        file = codec::join_path(context, file);
    const std::string dir(codec::dir_name(file));
    const std::string name = std::string(codec::base_name(file)) + ".dockerignore";
    const std::string beside = dir == "." ? name : codec::join_path(dir, name);
    const auto opened = sys::RootedDir::open_host(dir);
    if (opened && TRY(read_rules(*opened, name, beside, rules))) return rules;
    TRY(read_rules(root, ".dockerignore", codec::join_path(context, ".dockerignore"), rules));
    return rules;
}

Result<> list_context(const std::string& context, const IgnoreRules& rules, ContextFile which,
                      const std::function<void(const ListedFile&)>& visit, const Stop& stop) {
    std::vector<std::string> patterns;
    for (const auto& line : rules.lines) patterns.push_back(line.pattern);
    const auto shown = TRY(snapshot::LiveDir::create(TRY(open_context(context)), {.exclude = patterns, .include = {}}));
    const auto whole = TRY(snapshot::LiveDir::create(TRY(open_context(context)), {}));
    const DirectoryRef top = TRY(shown->root());
    const DirectoryRef whole_top = TRY(whole->root());
    return Lister(which, visit, stop).list(*top, *whole_top, "", 0);
}

}  // namespace cooper::engine
