#include "filesync/receive.hpp"

#include "base/guarded.hpp"
#include "base/text.hpp"
#include "filesync/detail/tree_writer.hpp"

#include <array>
#include <atomic>
#include <deque>
#include <stop_token>
#include <thread>
#include <unordered_map>

namespace cooper::filesync {

namespace {

using detail::IncomingFile;
using detail::ParentCache;
using detail::TreeWriter;

constexpr std::size_t kWriters = 2;
constexpr std::size_t kMaxQueuedBytes = 8UL << 20U;  // for each writer
constexpr std::size_t kMaxQueued = 4096;
constexpr std::size_t kMaxOpen = 64;  // senders interleave a handful of files
constexpr std::uint64_t kProgressBytes = 1UL << 20U;

class Receiver {
public:
    Receiver(PacketStream& stream, const sys::RootedDir& dest, const ReceiveOptions& options)
        : stream_(stream), dest_(dest), options_(options), tree_(dest, options, stats_) {}

    Result<ReceiveStats> run(const Stop& stop) {
        const std::stop_callback on_stop(stop, [this] {
            ending_.request_stop();
            stream_.cancel();
        });
        {
            std::vector<std::jthread> threads;
            threads.emplace_back([this] { keep(send_requests()); });
            for (Writer& writer : writers_) threads.emplace_back([this, &writer] { keep(write_files(writer)); });
            keep(serve());
            ending_.request_stop();
            if (error_.lock()->has_value()) stream_.cancel();
        }
        if (stop.stop_requested()) return cancelled();
        if (auto error = error_.lock(); *error) return **error;
        if (options_.progress) options_.progress(received_bytes_);
        TRY(stream_.close_send());
        return stats_;
    }

private:
    // A piece of a file: where it is in the message it came in.
    struct Piece {
        std::shared_ptr<IncomingFile> file;
        std::string message;
        std::size_t begin = 0;
        std::size_t size = 0;  // 0: the file is complete
    };
    struct Queue {
        std::deque<Piece> pieces;
        std::size_t bytes = 0;
    };
    struct Writer {
        Guarded<Queue> queue;
    };
    struct Open {
        std::shared_ptr<IncomingFile> file;
        Writer* writer = nullptr;
    };
    struct Progress {
        std::uint64_t outstanding = 0;  // files asked for and not complete
        bool all_offered = false;
        bool finishing = false;
        bool finished = false;
    };

    // The first failure counts; what it breaks elsewhere does not. The other side is told unless it told us.
    void keep(const Result<>& result) {
        if (result) return;
        {
            auto error = error_.lock();
            if (*error || ending_.stop_requested()) return;
            *error = result.error();
        }
        ending_.request_stop();
        if (!sender_failed_) static_cast<void>(stream_.send(error_packet(result.error().to_string())));
        stream_.cancel();
    }

    // --- packets, in the caller's thread

    Result<> serve() {
        while (true) {
            auto message = TRY(stream_.receive());
            if (!message) {
                return fail(Code::unavailable, Blame::world, "the sender ended the transfer before it was complete");
            }
            count(message->size());
            const Packet packet = TRY(parse_packet(*message));
            switch (packet.type) {
                case PacketType::stat:
                    TRY(packet.stat ? offer(*packet.stat) : end_of_offers());
                    break;
                case PacketType::data: {
                    const std::size_t begin =
                        packet.data.empty() ? 0 : static_cast<std::size_t>(packet.data.data() - message->data());
                    Piece piece;
                    piece.begin = begin;
                    piece.size = packet.data.size();
                    TRY(take_data(packet.id, std::move(piece), *message));
                    break;
                }
                case PacketType::fin:
                    return end();
                case PacketType::error:
                    sender_failed_ = true;
                    return fail(Code::unknown, Blame::world, "error from sender: {}", packet.data);
                case PacketType::request:
                    return bad_input("the sender asked for a file");
            }
        }
    }

    void count(std::size_t bytes) {
        received_bytes_ += bytes;
        if (!options_.progress || received_bytes_ - told_bytes_ < kProgressBytes) return;
        told_bytes_ = received_bytes_;
        options_.progress(received_bytes_);
    }

    Result<> offer(const Stat& stat) {
        if (all_offered_) return bad_input("entry {} after the last one", quoted(stat.path));
        if (stats_.entries >= options_.max_entries) {
            return fail(Code::resource_exhausted, Blame::user, "more than {} entries", options_.max_entries);
        }
        const auto id = static_cast<std::uint32_t>(stats_.entries++);
        const bool empty = stat.size == 0;
        std::unique_ptr<IncomingFile> file = TRY(tree_.add(stat));
        if (file == nullptr) return {};
        ++progress_.lock()->outstanding;
        ++stats_.received;
        if (empty && stat.linkname.empty()) {  // nothing to ask for
            Piece piece;
            piece.file = std::move(file);
            return hand_over(writers_[id % kWriters], std::move(piece));
        }
        asked_.emplace(id, std::move(file));
        requests_.lock()->push_back(id);
        requests_.notify_one();
        return {};
    }

    Result<> end_of_offers() {
        if (all_offered_) return bad_input("the last entry was announced twice");
        all_offered_ = true;
        TRY(tree_.end());
        progress_.lock()->all_offered = true;
        return finish_if_complete();
    }

    Result<> take_data(std::uint32_t id, Piece piece, std::string& message) {
        auto open = open_.find(id);
        if (open == open_.end()) {
            const auto asked = asked_.find(id);
            if (asked == asked_.end()) return bad_input("content of entry {}, which was not asked for", id);
            if (open_.size() >= kMaxOpen) return bad_input("more than {} files at once", kMaxOpen);
            open = open_.emplace(id, Open{.file = std::move(asked->second), .writer = &writers_[next_++ % kWriters]})
                       .first;
            asked_.erase(asked);
        }
        stats_.bytes += piece.size;
        if (stats_.bytes > options_.max_bytes) {
            return fail(Code::resource_exhausted, Blame::user, "more than {} bytes of content", options_.max_bytes);
        }
        piece.file = open->second.file;
        Writer& writer = *open->second.writer;
        if (piece.size == 0) {
            open_.erase(open);
        } else {
            piece.message = std::move(message);
        }
        return hand_over(writer, std::move(piece));
    }

    Result<> hand_over(Writer& writer, Piece piece) {
        {
            auto queue = writer.queue.lock();
            const bool free = queue.wait(ending_.get_token(), [&] {
                return queue->bytes < kMaxQueuedBytes && queue->pieces.size() < kMaxQueued;
            });
            if (!free) return cancelled();
            queue->bytes += piece.size;
            queue->pieces.push_back(std::move(piece));
        }
        writer.queue.notify_all();
        return {};
    }

    // The sender's FIN answers ours; nothing but the end of the stream may follow.
    Result<> end() {
        if (!progress_.lock()->finished) return bad_input("the sender ended the transfer before it was complete");
        if (TRY(stream_.receive())) return bad_input("the sender sent a packet after the last one");
        return {};
    }

    // --- requests and content, in other threads

    Result<> send_requests() {
        std::deque<std::uint32_t> batch;
        while (true) {
            {
                auto requests = requests_.lock();
                const bool any = requests.wait(ending_.get_token(), [&] { return !requests->empty(); });
                if (!any || ending_.stop_requested()) return {};
                batch.swap(*requests);
            }
            for (; batch.size() > 1; batch.pop_front()) TRY(stream_.send_ahead(request_packet(batch.front())));
            TRY(stream_.send(request_packet(batch.front())));
            batch.clear();
        }
    }

    Result<> write_files(Writer& writer) {
        ParentCache parents(dest_);
        std::deque<Piece> batch;
        while (true) {
            {
                auto queue = writer.queue.lock();
                const bool any = queue.wait(ending_.get_token(), [&] { return !queue->pieces.empty(); });
                if (!any || ending_.stop_requested()) return {};
                batch.swap(queue->pieces);
                queue->bytes = 0;
            }
            writer.queue.notify_all();
            for (Piece& piece : batch) TRY(write(piece, parents));
            batch.clear();
        }
    }

    Result<> write(Piece& piece, ParentCache& parents) {
        if (piece.size > 0) {
            if (options_.before_write) TRY(options_.before_write(piece.size));
            return piece.file->write(parents, std::string_view(piece.message).substr(piece.begin, piece.size));
        }
        TRY(piece.file->complete(parents));
        piece.file.reset();
        --progress_.lock()->outstanding;
        return finish_if_complete();
    }

    // In the thread that completed the last thing there was to do; the reader of packets then only waits.
    Result<> finish_if_complete() {
        {
            auto progress = progress_.lock();
            if (progress->outstanding > 0 || !progress->all_offered || progress->finishing) return {};
            progress->finishing = true;
        }
        TRY(tree_.finish());
        progress_.lock()->finished = true;
        return stream_.send(fin_packet());
    }

    PacketStream& stream_;
    const sys::RootedDir& dest_;
    const ReceiveOptions& options_;
    ReceiveStats stats_;
    TreeWriter tree_;
    bool all_offered_ = false;
    std::uint64_t received_bytes_ = 0;
    std::uint64_t told_bytes_ = 0;
    std::size_t next_ = 0;
    std::unordered_map<std::uint32_t, std::unique_ptr<IncomingFile>> asked_;
    std::unordered_map<std::uint32_t, Open> open_;
    Guarded<std::deque<std::uint32_t>> requests_;
    std::array<Writer, kWriters> writers_;
    Guarded<Progress> progress_;
    Guarded<std::optional<Error>> error_;
    StopSource ending_;
    std::atomic<bool> sender_failed_ = false;
};

}  // namespace

Result<ReceiveStats> receive(PacketStream& stream, const sys::RootedDir& dest, const ReceiveOptions& options,
                             const Stop& stop) {
    return Receiver(stream, dest, options).run(stop);
}

}  // namespace cooper::filesync
