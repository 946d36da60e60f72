#include "layer/difference.hpp"

#include "sys/fd.hpp"

#include <algorithm>
#include <array>
#include <map>

namespace cooper::layer {

namespace {

using snapshot::DirectoryRef;
using snapshot::Entry;
using snapshot::Kind;
using snapshot::Meta;
using snapshot::Node;
using snapshot::WritableDirRef;

constexpr std::uint64_t kOperation = 1;  // one per layer

class Difference {
public:
    Difference(snapshot::LayerBuilder& target, const Stop& stop) : target_(target), stop_(stop) {}

    // A list instead of recursion: trees may be deeper than a stack.
    Result<> run(const snapshot::TreeRef& lower, const snapshot::TreeRef& upper) {
        pairs_.push_back({"/", TRY(lower->root()), TRY(upper->root())});
        const Pair& root = pairs_.front();
        if (!same_meta(root.lower->self(), root.upper->self()) ||
            TRY(root.lower->self_xattrs()) != TRY(root.upper->self_xattrs())) {
            TRY(TRY(target_.root())->set_meta(meta_of(root.upper->self(), TRY(root.upper->self_xattrs()))));
        }
        while (!pairs_.empty()) {
            TRY(check_stop(stop_));
            const Pair pair = std::move(pairs_.back());
            pairs_.pop_back();
            TRY_CONTEXT(compare(pair), "{}", pair.path);
        }
        return {};
    }

private:
    // The same directory of both trees; lower is null where there is none.
    struct Pair {
        std::string path;
        DirectoryRef lower;
        DirectoryRef upper;
    };

    static bool same_meta(const Node& a, const Node& b) {
        return a.kind == b.kind && a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.mtime_ns == b.mtime_ns;
    }

    static Meta meta_of(const Node& node, snapshot::Xattrs xattrs) {
        return {.uid = node.uid,
                .gid = node.gid,
                .mode = node.mode,
                .mtime_ns = node.mtime_ns,
                .xattrs = std::move(xattrs)};
    }

    static std::string below(const std::string& path, const std::string& name) {
        return path == "/" ? "/" + name : path + "/" + name;
    }

    Result<> compare(const Pair& pair) {
        const std::vector<Entry> upper = TRY(pair.upper->list());
        std::vector<Entry> lower;
        if (pair.lower != nullptr) lower = TRY(pair.lower->list());
        auto old = lower.begin();
        WritableDirRef to;  // opened when the first name differs
        const auto writable = [&]() -> Result<WritableDirRef> {
            if (to == nullptr) to = TRY(target_.open_dir(pair.path));
            return to;
        };
        for (const Entry& entry : upper) {
            for (; old != lower.end() && old->name < entry.name; ++old) TRY(TRY(writable())->remove(old->name));
            const bool was_there = old != lower.end() && old->name == entry.name;
            const Node node = TRY(pair.upper->stat(entry));
            if (was_there) {
                const Node before = TRY(pair.lower->stat(*old));
                ++old;
                if (TRY(is_same(pair, entry.name, before, node))) {
                    if (node.kind == Kind::directory) TRY(descend(pair, entry.name));
                    continue;
                }
                if (node.kind == Kind::directory && before.kind == Kind::directory) {
                    const auto dir = TRY(TRY(writable())->open_dir(entry.name));
                    TRY(dir->set_meta(meta_of(node, TRY(pair.upper->xattrs(entry.name, node)))));
                    TRY(descend(pair, entry.name));
                    continue;
                }
                TRY(TRY(writable())->remove(entry.name));
            }
            TRY(put(pair, *TRY(writable()), entry.name, node));
        }
        for (; old != lower.end(); ++old) TRY(TRY(writable())->remove(old->name));
        return {};
    }

    Result<> descend(const Pair& pair, const std::string& name) {
        pairs_.push_back({below(pair.path, name), TRY(pair.lower->open_dir(name)), TRY(pair.upper->open_dir(name))});
        return {};
    }

    // Directories: of themselves, not of what they hold.
    Result<bool> is_same(const Pair& pair, const std::string& name, const Node& before, const Node& now) {
        if (!same_meta(before, now)) return false;
        const bool one_inode =
            before.inode == now.inode && before.device == now.device && before.ctime_ns == now.ctime_ns;
        if (one_inode && now.kind != Kind::directory) return true;
        if (now.kind == Kind::file && before.size != now.size) return false;
        if ((now.kind == Kind::char_device || now.kind == Kind::block_device) && before.rdev != now.rdev) return false;
        if (TRY(pair.lower->xattrs(name, before)) != TRY(pair.upper->xattrs(name, now))) return false;
        if (now.kind == Kind::symlink)
            return TRY(pair.lower->read_link(name, before)) == TRY(pair.upper->read_link(name, now));
        if (now.kind != Kind::file) return true;
        return same_content(TRY(pair.lower->open_file(name, before)), TRY(pair.upper->open_file(name, now)));
    }

    Result<bool> same_content(const sys::Fd& one, const sys::Fd& other) {
        while (true) {
            TRY(check_stop(stop_));
            const std::size_t n = TRY(fill(one, first_));
            const std::size_t m = TRY(fill(other, second_));
            if (n != m || !std::equal(first_.begin(), first_.begin() + static_cast<std::ptrdiff_t>(n), second_.begin()))
                return false;
            if (n < first_.size()) return true;
        }
    }

    static Result<std::size_t> fill(const sys::Fd& file, std::span<std::byte> buffer) {
        std::size_t have = 0;
        while (have < buffer.size()) {
            const std::size_t n = TRY(sys::read_some(file.get(), buffer.subspan(have)));
            if (n == 0) break;
            have += n;
        }
        return have;
    }

    Result<> put(const Pair& pair, snapshot::WritableDir& to, const std::string& name, const Node& node) {
        if (node.kind == Kind::file) return put_file(pair, to, name, node);
        const Meta meta = meta_of(node, TRY(pair.upper->xattrs(name, node)));
        if (node.kind == Kind::directory) {
            TRY(to.make_dir(name, meta));
            pairs_.push_back({below(pair.path, name), nullptr, TRY(pair.upper->open_dir(name))});
            return {};
        }
        if (node.kind == Kind::symlink) return to.put_symlink(name, TRY(pair.upper->read_link(name, node)), meta);
        return to.put_special(name, node.kind, node.rdev, meta);
    }

    Result<> put_file(const Pair& pair, snapshot::WritableDir& to, const std::string& name, const Node& node) {
        const std::uint64_t domain = pair.upper->link_domain(node);
        const int link_fd = pair.upper->link_fd(node);
        if (link_fd >= 0 && TRY(to.put_link(name, link_fd, name, node, domain, kOperation))) return {};
        const auto key = std::make_pair(domain, node.inode);
        if (const auto first = copied_.find(key); node.links > 1 && first != copied_.end())
            return to.put_hard_link(name, *TRY(target_.open_dir(first->second.first)), first->second.second);
        const sys::Fd file = TRY(pair.upper->open_file(name, node));
        TRY(to.put_file(name, file.get(), meta_of(node, TRY(pair.upper->xattrs(name, node)))));
        if (node.links > 1) copied_.emplace(key, std::make_pair(pair.path, name));
        return {};
    }

    snapshot::LayerBuilder& target_;
    const Stop& stop_;
    std::vector<Pair> pairs_;
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::pair<std::string, std::string>> copied_;
    std::array<std::byte, 1U << 16U> first_{};
    std::array<std::byte, 1U << 16U> second_{};
};

}  // namespace

Result<> put_difference(const snapshot::TreeRef& lower, const snapshot::TreeRef& upper, snapshot::LayerBuilder& target,
                        const Stop& stop) {
    const auto difference = std::make_unique<Difference>(target, stop);
    return difference->run(lower, upper);
}

}  // namespace cooper::layer
