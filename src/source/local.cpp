#include "source/local.hpp"

#include "base/log.hpp"
#include "base/text.hpp"
#include "codec/path_match.hpp"

#include <cerrno>
#include <fmt/format.h>

namespace cooper::source {

namespace {

constexpr const char* kUsual = "-usual";  // what was read for digests of alike contents

// Include patterns for paths that must be reachable: the path as written and where its links lead.
Result<std::vector<std::string>> follow(const snapshot::Tree& tree, const std::vector<std::string>& paths) {
    std::vector<std::string> patterns;
    const auto add = [&](std::string_view rooted) {
        if (rooted.size() > 1) patterns.emplace_back(rooted.substr(1));
    };
    for (const auto& path : paths) {
        const std::string rooted = codec::rooted_path(path);
        add(rooted);
        const auto split = codec::split_wildcard(rooted);
        // Each link on the way must be there itself, too.
        for (std::size_t end = split.fixed.find('/', 1);; end = split.fixed.find('/', end + 1)) {
            const std::string part = split.fixed.substr(0, end);
            const auto link = TRY(tree.find(part, snapshot::FollowLast::no));
            if (link && link->node.kind == snapshot::Kind::symlink) {
                add(link->path);
                const std::string target = TRY(tree.resolve(part));
                const std::string rest = end == std::string::npos ? std::string() : rooted.substr(end);
                add(codec::rooted_path(target + rest));
            }
            if (end == std::string::npos) break;
        }
    }
    return patterns;
}

}  // namespace

Result<std::unique_ptr<LocalContext>> LocalContext::open(const LocalOptions& options) {
    auto dir = sys::RootedDir::open_host(options.host_path);
    if (!dir) {
        const auto* error = dir.error().find_detail<Errno>();
        const int value = error != nullptr ? error->value : 0;
        if (value == ENOTDIR) return bad_input("build context is not a directory: {}", options.host_path);
        if (value == ENOENT) {
            return fail(Code::not_found, Blame::user, "build context does not exist: {}", options.host_path);
        }
        return dir.error().with_context("open build context");
    }
    struct stat st{};
    if (::fstat(dir->fd(), &st) != 0) return fail_errno(errno, options.host_path);

    std::unique_ptr<LocalContext> context(new LocalContext());
    context->stat_cache_file_ = options.stat_cache_file;
    context->key_ = fmt::format("live {}:{} {}", st.st_dev, st.st_ino, options.host_path);
    if (options.modes == snapshot::Modes::git) context->key_ += " modes of git";
    snapshot::LiveDirOptions filters{.exclude = options.exclude, .include = options.include, .modes = options.modes};
    if (!options.include.empty() && !options.follow_paths.empty()) {
        sys::RootedDir again = TRY(sys::RootedDir::open_host(options.host_path));
        const snapshot::TreeRef all = TRY(snapshot::LiveDir::create(std::move(again), {.exclude = options.exclude}));
        const auto more = TRY(follow(*all, options.follow_paths));
        filters.include.insert(filters.include.end(), more.begin(), more.end());
    }
    context->tree_ = TRY(snapshot::LiveDir::create(std::move(*dir), filters));
    layer::DigestTable known;
    if (!options.stat_cache_file.empty()) known = layer::DigestTable::load(options.stat_cache_file, context->key_);
    context->digester_ = std::make_unique<layer::TreeDigester>(context->tree_, std::move(known), options.threads);
    if (!options.stat_cache_file.empty()) {
        context->digester_->remember_usual([file = options.stat_cache_file + kUsual, key = context->key_] {
            return layer::DigestTable::load(file, key);
        });
    }
    return context;
}

LocalContext::~LocalContext() {
    if (const auto saved = save(); !saved) {
        log::debug("stat cache of a build context not saved", {{"error", saved.error().to_string()}});
    }
}

Result<Digest> LocalContext::digest(std::span<const layer::ContentSelector> selectors, Stop stop) {
    return digester_->digest_all(selectors, std::move(stop));
}

Result<> LocalContext::save() {
    if (stat_cache_file_.empty() || !digester_) return {};
    if (const auto usual = digester_->take_usual()) TRY(usual->save(stat_cache_file_ + kUsual, key_));
    if (!digester_->take_learnt()) return {};
    return digester_->table().save(stat_cache_file_, key_);
}

}  // namespace cooper::source
