#include "filesync/send.hpp"

#include "base/guarded.hpp"
#include "base/text.hpp"
#include "codec/wire.hpp"
#include "filesync/packet.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <map>
#include <mutex>
#include <stop_token>
#include <sys/sysmacros.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace cooper::filesync {

namespace {

using snapshot::Directory;
using snapshot::DirectoryRef;
using snapshot::Kind;
using snapshot::Node;

constexpr std::size_t kReaders = 4;
constexpr std::size_t kChunkBytes = 128UL * 1024;
constexpr std::size_t kMaxDepth = 700;
// So many entries go out together. Less would cost time, more would leave the other side without work.
constexpr std::uint64_t kEntriesAtOnce = 128;
constexpr std::int64_t kSecond = 1'000'000'000;

bool has_errno(const Error& error, int value) {
    const Errno* found = error.find_detail<Errno>();
    return found != nullptr && found->value == value;
}

// Files whose content may be asked for, by their number. A file is found again by name: keeping its directory open
// would use up descriptors.
class OfferedFiles {
public:
    struct File {
        std::size_t tree = 0;
        std::uint32_t directory = 0;
        std::string name;
        Node node;
    };

    std::uint32_t add_directory(std::uint32_t parent, std::string name) {
        auto state = state_.lock();
        state->directories.push_back({.parent = parent, .name = std::move(name)});
        return static_cast<std::uint32_t>(state->directories.size() - 1);
    }
    // Entries must be added in the order of their numbers; nothing for what is no file.
    void add(std::optional<File> file) {
        auto state = state_.lock();
        state->files.emplace_back();
        if (file) state->files.back() = std::make_unique<File>(std::move(*file));
    }
    // Each file once.
    Result<std::unique_ptr<File>> take(std::uint32_t id) {
        auto state = state_.lock();
        if (id >= state->files.size() || state->files[id] == nullptr) {
            return bad_input("the receiver asked for entry {}, which is no file or was asked for before", id);
        }
        return std::move(state->files[id]);
    }
    // Names from the root of its tree.
    std::vector<std::string> path_of(std::uint32_t directory) {
        auto state = state_.lock();
        std::vector<std::string> names;
        for (std::uint32_t at = directory; at != 0; at = state->directories[at].parent) {
            names.push_back(state->directories[at].name);
        }
        std::reverse(names.begin(), names.end());
        return names;
    }

private:
    struct Dir {
        std::uint32_t parent = 0;
        std::string name;
    };
    struct State {
        std::vector<std::unique_ptr<File>> files;
        std::deque<Dir> directories{Dir{}};  // the first is the root of every tree
    };
    Guarded<State> state_;
};

class Sender {
public:
    Sender(PacketStream& stream, const std::vector<SentTree>& trees, const SendOptions& options)
        : stream_(stream), trees_(trees), options_(options) {}

    Result<SendStats> run(const Stop& stop) {
        for (const SentTree& tree : trees_) {
            if (tree.name.empty() && trees_.size() > 1) return bad_input("a tree without a name among several");
        }
        const std::stop_callback on_stop(stop, [this] {
            ending_.request_stop();
            stream_.cancel();
        });
        {
            std::vector<std::jthread> threads;
            threads.emplace_back([this] { keep(walk_all()); });
            for (std::size_t i = 0; i < kReaders; ++i) threads.emplace_back([this] { keep(read_files()); });
            keep(serve());
            ending_.request_stop();
            // A thread that is still sending has nobody who listens.
            if (failed()) stream_.cancel();
        }
        if (stop.stop_requested()) return cancelled();
        if (auto error = error_.lock(); *error) return **error;
        TRY(stream_.close_send());
        return SendStats{.entries = entries_, .requested = requested_, .bytes = bytes_};
    }

private:
    bool failed() { return error_.lock()->has_value(); }
    // The first failure counts; what it breaks elsewhere does not. The other side is told unless it told us.
    void keep(const Result<>& result) {
        if (result) return;
        {
            auto error = error_.lock();
            if (*error || ending_.stop_requested()) return;
            *error = result.error();
        }
        ending_.request_stop();
        if (!receiver_failed_) static_cast<void>(stream_.send(error_packet(result.error().to_string())));
        stream_.cancel();
    }

    // --- requests, in the caller's thread

    Result<> serve() {
        while (true) {
            const auto message = TRY(stream_.receive());
            if (!message) {
                return fail(Code::unavailable, Blame::world, "the receiver ended the transfer before it was complete");
            }
            const Packet packet = TRY(parse_packet(*message));
            switch (packet.type) {
                case PacketType::request:
                    ++unended_;  // before anybody can end it
                    wanted_.lock()->push_back({.id = packet.id, .file = TRY(files_.take(packet.id))});
                    wanted_.notify_one();
                    break;
                case PacketType::fin:
                    return stream_.send(fin_packet());
                case PacketType::error:
                    receiver_failed_ = true;
                    return fail(Code::unknown, Blame::world, "error from receiver: {}", packet.data);
                case PacketType::stat:
                case PacketType::data:
                    return bad_input("the receiver sent a packet of type {}", static_cast<int>(packet.type));
            }
        }
    }

    // --- entries, in a thread of their own

    Result<> walk_all() {
        for (std::size_t i = 0; i < trees_.size(); ++i) {
            const SentTree& tree = trees_[i];
            const DirectoryRef root = TRY(tree.tree->root());
            links_.clear();
            if (tree.name.empty()) {
                TRY(walk(*root, i, 0, "", 0));
                continue;
            }
            Stat stat{.path = tree.name, .mode = to_go_mode(Kind::directory, 0755)};
            stat.mtime_ns = time_of(root->self());
            files_.add(std::nullopt);
            TRY(offer(stat));
            TRY(walk(*root, i, 0, tree.name + "/", 0));
        }
        return stream_.send(end_of_stats_packet());
    }

    Result<> walk(const Directory& dir, std::size_t tree, std::uint32_t number, const std::string& prefix,
                  std::size_t depth) {
        if (depth > kMaxDepth) return bad_input("directories are nested deeper than {}: {}", kMaxDepth, prefix);
        const auto entries = dir.list();
        if (!entries) return entries.error().with_context(quoted(prefix));
        for (const auto& entry : *entries) {
            if (ending_.stop_requested()) return cancelled();
            TRY(visit(dir, entry, tree, number, prefix, depth));
        }
        return {};
    }

    Result<> visit(const Directory& dir, const snapshot::Entry& entry, std::size_t tree, std::uint32_t number,
                   const std::string& prefix, std::size_t depth) {
        if (entry.kind == Kind::socket) return {};
        const auto found = dir.stat(entry);
        if (!found) return gone_or(found.error());
        const Node& node = *found;
        if (node.kind == Kind::socket) return {};
        Stat stat{.path = prefix + entry.name, .mode = to_go_mode(node.kind, node.mode)};
        stat.uid = node.uid;
        stat.gid = node.gid;
        stat.mtime_ns = time_of(node);
        DirectoryRef child;
        if (node.kind == Kind::directory) {
            auto opened = dir.open_dir(entry.name);
            if (!opened) return gone_or(opened.error());
            child = std::move(*opened);
        } else {
            stat.size = static_cast<std::int64_t>(node.size);
        }
        if (node.kind == Kind::symlink) {
            auto target = dir.read_link(entry.name, node);
            if (!target) return gone_or(target.error());
            stat.linkname = std::move(*target);
        }
        if (node.kind == Kind::char_device || node.kind == Kind::block_device) {
            stat.devmajor = major(node.rdev);
            stat.devminor = minor(node.rdev);
        }
        auto xattrs = dir.xattrs(entry.name, node);
        if (!xattrs) return gone_or(xattrs.error());
        stat.xattrs = std::move(*xattrs);
        const bool is_file = node.kind == Kind::file;
        if (is_file && node.links > 1) {
            const auto [first, is_new] = links_.try_emplace({dir.link_domain(node), node.inode}, stat.path);
            if (!is_new) {
                stat.linkname = first->second;
                stat.size = 0;
            }
        }
        if (is_file) {
            files_.add(OfferedFiles::File{.tree = tree, .directory = number, .name = entry.name, .node = node});
        } else {
            files_.add(std::nullopt);
        }
        TRY(offer(stat));
        if (child == nullptr) return {};
        return walk(*child, tree, files_.add_directory(number, entry.name), stat.path + "/", depth + 1);
    }

    static Result<> gone_or(const Error& error) {
        if (has_errno(error, ENOENT)) return {};
        return error;
    }

    Result<> offer(const Stat& stat) {
        const std::string packet = stat_packet(stat);
        return ++entries_ % kEntriesAtOnce == 0 ? stream_.send(packet) : stream_.send_ahead(packet);
    }

    [[nodiscard]] std::int64_t time_of(const Node& node) const {
        return options_.epoch_seconds ? *options_.epoch_seconds * kSecond : node.mtime_ns;
    }

    // --- content, in several threads

    struct Wanted {
        std::uint32_t id = 0;
        std::unique_ptr<OfferedFiles::File> file;
    };

    // Requests mostly come in order, so the directory of the last file is kept.
    struct LastDirectory {
        std::size_t tree = 0;
        std::uint32_t number = 0;
        DirectoryRef directory;
    };

    Result<> read_files() {
        LastDirectory last;
        Bytes buffer(kHeadBytes + kChunkBytes);
        while (true) {
            Wanted wanted;
            {
                auto queue = wanted_.lock();
                const bool any = queue.wait(ending_.get_token(), [&] { return !queue->empty(); });
                if (!any || ending_.stop_requested()) return {};
                wanted = std::move(queue->front());
                queue->pop_front();
            }
            TRY(send_file(wanted, last, buffer));
            ++requested_;
        }
    }

    Result<> send_file(const Wanted& wanted, LastDirectory& last, Bytes& buffer) {
        auto opened = open_file(*wanted.file, last);
        if (!opened && !has_errno(opened.error(), ENOENT)) return opened.error();
        while (opened) {
            if (ending_.stop_requested()) return cancelled();
            const auto space = std::span(buffer).subspan(kHeadBytes);
            const std::size_t n = TRY_CONTEXT(sys::read_some(opened->get(), space), "read {}", shown(*wanted.file));
            if (n == 0) break;
            bytes_ += n;
            TRY(send_data(wanted.id, buffer, n));
            if (n < space.size() && n >= wanted.file->node.size) break;
        }
        return end_file(wanted.id);
    }

    // Ends go out together while there are other files to end. Counted and sent under one lock: so the end of which
    // nobody is left to send another is also the last to be sent, and it waits for nothing.
    Result<> end_file(std::uint32_t id) {
        const std::string end = data_packet(id, {});
        const std::scoped_lock lock(sending_end_);
        return --unended_ == 0 ? stream_.send(end) : stream_.send_ahead(end);
    }

    // The head of a packet goes right before the content that was read to kHeadBytes.
    static constexpr std::size_t kHeadBytes = 16;
    Result<> send_data(std::uint32_t id, Bytes& buffer, std::size_t size) {
        codec::WireWriter packet;
        packet.uint(1, static_cast<std::uint64_t>(PacketType::data));
        packet.uint(3, id);
        packet.head(4, size);
        const std::string bytes = packet.take();
        DCHECK(bytes.size() <= kHeadBytes);
        const std::size_t begin = kHeadBytes - bytes.size();
        std::ranges::copy(as_bytes(bytes), buffer.begin() + static_cast<std::ptrdiff_t>(begin));
        return stream_.send_ahead(as_text(std::span<const std::byte>(buffer).subspan(begin, bytes.size() + size)));
    }

    Result<sys::Fd> open_file(const OfferedFiles::File& file, LastDirectory& last) {
        if (last.directory == nullptr || last.tree != file.tree || last.number != file.directory) {
            last.directory = TRY(trees_[file.tree].tree->root());
            for (const std::string& name : files_.path_of(file.directory)) {
                last.directory = TRY(last.directory->open_dir(name));
            }
            last.tree = file.tree;
            last.number = file.directory;
        }
        return last.directory->open_file(file.name, file.node);
    }

    std::string shown(const OfferedFiles::File& file) {
        std::string path;
        for (const std::string& name : files_.path_of(file.directory)) path += name + "/";
        return quoted(path + file.name);
    }

    PacketStream& stream_;
    const std::vector<SentTree>& trees_;
    const SendOptions& options_;
    OfferedFiles files_;
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::string> links_;  // of the walking thread
    Guarded<std::deque<Wanted>> wanted_;
    std::mutex sending_end_;
    std::atomic<std::uint64_t> unended_ = 0;  // files that were asked for and not ended
    Guarded<std::optional<Error>> error_;
    StopSource ending_;
    std::atomic<bool> receiver_failed_ = false;
    std::uint64_t entries_ = 0;  // of the walking thread until it is joined
    std::atomic<std::uint64_t> requested_ = 0;
    std::atomic<std::uint64_t> bytes_ = 0;
};

}  // namespace

Result<SendStats> send(PacketStream& stream, const std::vector<SentTree>& trees, const SendOptions& options,
                       const Stop& stop) {
    return Sender(stream, trees, options).run(stop);
}

}  // namespace cooper::filesync
