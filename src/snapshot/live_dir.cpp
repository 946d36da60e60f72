#include "snapshot/live_dir.hpp"

#include "base/guarded.hpp"
#include "snapshot/dir_entries.hpp"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>
#include <unordered_map>

namespace cooper::snapshot {

using codec::PatternMatcher;

struct LiveDir::State {
    sys::RootedDir dir;
    PatternMatcher exclude;
    PatternMatcher include;
    Modes modes = Modes::as_they_are;
    // Excluded directories that were searched for something an exception (or include pattern) brings back.
    mutable Guarded<std::unordered_map<std::string, bool>> searched;

    [[nodiscard]] bool filters() const { return !exclude.empty() || !include.empty(); }
};

namespace {

struct Matched {
    PatternMatcher::ParentResults exclude;
    PatternMatcher::ParentResults include;
};

class LiveDirectory final : public Directory {
public:
    LiveDirectory(std::shared_ptr<const LiveDir::State> state, sys::Fd fd, Node self, std::string path, Matched matched)
        : state_(std::move(state)), fd_(std::move(fd)), path_(std::move(path)), matched_(std::move(matched)) {
        self_ = self;
    }

    [[nodiscard]] Result<std::vector<Entry>> list() const override {
        std::vector<Entry> entries;
        TRY(for_each_name(fd_.get(), [&](std::string_view name, unsigned char type) {
            Entry entry{.name = std::string(name)};
            if (type == DT_UNKNOWN) {
                struct stat st{};
                if (::fstatat(fd_.get(), entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return;
                type = static_cast<unsigned char>(IFTODT(st.st_mode));
            }
            switch (type) {
                case DT_SOCK:
                    return;
                case DT_DIR:
                    entry.kind = Kind::directory;
                    break;
                case DT_LNK:
                    entry.kind = Kind::symlink;
                    break;
                case DT_CHR:
                    entry.kind = Kind::char_device;
                    break;
                case DT_BLK:
                    entry.kind = Kind::block_device;
                    break;
                case DT_FIFO:
                    entry.kind = Kind::fifo;
                    break;
                default:
                    entry.kind = Kind::file;
            }
            entries.push_back(std::move(entry));
        }));
        if (state_->filters()) {
            std::erase_if(entries, [&](const Entry& entry) { return !visible(entry.name, entry.kind); });
        }
        std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
        return entries;
    }

    [[nodiscard]] Result<std::optional<Node>> find(const std::string& name) const override {
        struct stat st{};
        if (::fstatat(fd_.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT || errno == ENAMETOOLONG) return std::optional<Node>();
            return fail_errno(errno, shown(name));
        }
        const Node node = own(*state_, st);
        if (node.kind == Kind::socket || !visible(name, node.kind)) return std::optional<Node>();
        return std::optional<Node>(node);
    }

    [[nodiscard]] Result<Node> stat(const Entry& entry) const override {
        struct stat st{};
        if (::fstatat(fd_.get(), entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
            return fail_errno(errno, shown(entry.name));
        }
        return own(*state_, st);
    }

    [[nodiscard]] Result<DirectoryRef> open_dir(const std::string& name) const override {
        return DirectoryRef(TRY(open_child(name)));
    }

    [[nodiscard]] Result<sys::Fd> open_file(const std::string& name, const Node& /*node*/) const override {
        sys::Fd fd(::openat(fd_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
        if (!fd.valid()) return fail_errno(errno, shown(name));
        return fd;
    }

    [[nodiscard]] Result<std::string> read_link(const std::string& name, const Node& /*node*/) const override {
        std::string target(4096, '\0');
        const ssize_t size = ::readlinkat(fd_.get(), name.c_str(), target.data(), target.size());
        if (size < 0) return fail_errno(errno, shown(name));
        target.resize(static_cast<std::size_t>(size));
        return target;
    }

    [[nodiscard]] Result<Xattrs> xattrs(const std::string& name, const Node& /*node*/) const override {
        return read_xattrs_at(fd_.get(), name);
    }
    [[nodiscard]] Result<Xattrs> self_xattrs() const override { return read_xattrs(fd_.get()); }
    [[nodiscard]] int link_fd(const Node& /*node*/) const override { return -1; }
    [[nodiscard]] std::uint64_t link_domain(const Node& node) const override { return node.device; }

    static Node own(const LiveDir::State& state, const struct stat& st) {
        Node node = node_from_stat(st);
        node.uid = 0;
        node.gid = 0;
        if (state.modes == Modes::git && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
            node.mode = S_ISDIR(st.st_mode) || (st.st_mode & S_IXUSR) != 0 ? 0755 : 0644;
        return node;
    }

private:
    [[nodiscard]] std::string relative(const std::string& name) const {
        return path_.empty() ? name : path_ + "/" + name;
    }
    [[nodiscard]] std::string shown(const std::string& name) const { return "/" + relative(name); }

    // Whether the patterns leave the path itself in; matched is what its children need to know.
    bool passes(const std::string& path, Matched& matched) const {
        bool in = true;
        if (!state_->include.empty()) in = state_->include.matches(path, matched_.include, matched.include);
        if (!state_->exclude.empty() && state_->exclude.matches(path, matched_.exclude, matched.exclude)) in = false;
        return in;
    }

    [[nodiscard]] bool visible(const std::string& name, Kind kind) const {
        if (!state_->filters()) return true;
        const std::string path = relative(name);
        Matched matched;
        if (passes(path, matched)) return true;
        if (kind != Kind::directory) return false;
        // A directory that is out is still there when something in it is in.
        if (!state_->include.empty() && !state_->include.may_match_below(path) && !covered(state_->include, path)) {
            return false;
        }
        if (!state_->exclude.empty() && state_->exclude.matches(path, matched_.exclude, matched.exclude) &&
            !(state_->exclude.has_exceptions() && state_->exclude.may_except_below(path))) {
            return false;
        }
        {
            auto searched = state_->searched.lock();
            if (const auto known = searched->find(path); known != searched->end()) return known->second;
        }
        const auto child = open_child(name);
        bool found = false;
        if (child) {
            const auto entries = (*child)->list();
            found = entries && !entries->empty();
        }
        state_->searched.lock()->emplace(path, found);
        return found;
    }
    static bool covered(const PatternMatcher& matcher, const std::string& path) {
        return matcher.matches_or_parent_matches(path);
    }

    [[nodiscard]] Result<std::shared_ptr<const LiveDirectory>> open_child(const std::string& name) const {
        sys::Fd fd(::openat(fd_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!fd.valid()) return fail_errno(errno, shown(name));
        struct stat st{};
        if (::fstat(fd.get(), &st) != 0) return fail_errno(errno, shown(name));
        std::string path = relative(name);
        Matched matched;
        if (state_->filters()) passes(path, matched);
        return std::make_shared<const LiveDirectory>(state_, std::move(fd), own(*state_, st), std::move(path),
                                                     std::move(matched));
    }

    std::shared_ptr<const LiveDir::State> state_;
    sys::Fd fd_;
    std::string path_;  // "" or "a/b"
    Matched matched_;
};

}  // namespace

LiveDir::LiveDir(std::shared_ptr<const State> state) : state_(std::move(state)) {}
LiveDir::~LiveDir() = default;

Result<std::shared_ptr<const LiveDir>> LiveDir::create(sys::RootedDir dir, const LiveDirOptions& options) {
    auto state = std::make_shared<State>();
    state->dir = std::move(dir);
    state->modes = options.modes;
    state->exclude = TRY_CONTEXT(PatternMatcher::create(options.exclude), "exclude patterns");
    state->include = TRY_CONTEXT(PatternMatcher::create(options.include), "include patterns");
    return std::shared_ptr<const LiveDir>(new LiveDir(std::move(state)));
}

Result<DirectoryRef> LiveDir::root() const {
    sys::Fd fd(::openat(state_->dir.fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, "open build context");
    struct stat st{};
    if (::fstat(fd.get(), &st) != 0) return fail_errno(errno, "open build context");
    return DirectoryRef(std::make_shared<LiveDirectory>(state_, std::move(fd), LiveDirectory::own(*state_, st),
                                                        std::string(), Matched()));
}

}  // namespace cooper::snapshot
