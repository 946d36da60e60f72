#include "inside/listing.hpp"

#include "base/guarded.hpp"
#include "base/text.hpp"
#include "base/work_pool.hpp"
#include "codec/compression.hpp"
#include "codec/sha256.hpp"
#include "codec/tar.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>

namespace cooper::inside {

namespace {

constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kOpaque = ".wh..wh..opq";
constexpr std::string_view kAufs = ".wh..wh.";
constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 40;
// A sparse file larger than this is known by its stored parts only: its holes would take hours.
constexpr std::uint64_t kMaxExpanded = std::uint64_t{1} << 30;
constexpr std::size_t kMaxTargets = std::size_t{1} << 30U;

std::array<std::uint8_t, 16> beginning(const Digest& digest) {
    std::array<std::uint8_t, 16> out{};
    std::memcpy(out.data(), digest.raw().data(), out.size());
    return out;
}

std::uint64_t hash_of(const std::map<std::string, std::string>& xattrs) {
    if (xattrs.empty()) return 0;
    codec::Sha256 hash;
    for (const auto& [name, value] : xattrs) {
        hash.update(fmt::format("{}:{}={}:", name.size(), name, value.size()));
        hash.update(value);
    }
    std::uint64_t out = 0;
    std::memcpy(&out, hash.finish().raw().data(), sizeof out);
    return out;
}

Kind kind_of(codec::TarType type) {
    switch (type) {
        case codec::TarType::file:
        case codec::TarType::hard_link:
            return Kind::file;
        case codec::TarType::symlink:
            return Kind::symlink;
        case codec::TarType::char_device:
            return Kind::char_device;
        case codec::TarType::block_device:
            return Kind::block_device;
        case codec::TarType::directory:
            return Kind::directory;
        case codec::TarType::fifo:
            return Kind::fifo;
    }
    UNREACHABLE();
}

class Reader {
public:
    Reader(Guarded<Paths>& paths, std::atomic<std::uint64_t>& entries, const ListingLimits& limits, const Stop& stop)
        : paths_(paths), entries_(entries), limits_(limits), stop_(stop), buffer_(std::size_t{256} << 10U) {}

    Result<Listing> read(ByteSource& source) {
        codec::TarReader tar(source, codec::TarLimits{.max_entries = limits_.max_entries});
        while (const codec::TarHeader* header = TRY(tar.next())) {
            TRY(check_stop(stop_));
            TRY_CONTEXT(add(tar, *header), "{}", quoted(header->name));
        }
        TRY(tar.drain());
        for (auto* marks : {&listing_.whiteouts, &listing_.opaques}) {
            std::ranges::sort(*marks);
            marks->erase(std::ranges::unique(*marks).begin(), marks->end());
        }
        return std::move(listing_);
    }

private:
    // A name that only marks something; false when it is a file like any other.
    Result<bool> add_mark(std::string_view name) {
        while (name.ends_with('/')) name.remove_suffix(1);
        const std::size_t slash = name.rfind('/');
        const std::string_view last = slash == std::string_view::npos ? name : name.substr(slash + 1);
        if (!last.starts_with(kWhiteout)) return false;
        auto paths = paths_.lock();
        const Paths::Id parent = TRY(paths->add(name.substr(0, name.size() - last.size())));
        if (last == kOpaque) {
            listing_.opaques.push_back(parent);
        } else if (!last.starts_with(kAufs) && last.size() > kWhiteout.size()) {
            const std::string_view hidden = last.substr(kWhiteout.size());
            if (hidden == "." || hidden == "..") return bad_input("is a whiteout of nothing");
            listing_.whiteouts.push_back(TRY(paths->add_child(parent, hidden)));
        }
        return true;
    }

    Result<> add(codec::TarReader& tar, const codec::TarHeader& header) {
        if (++entries_ > limits_.max_entries) {
            return fail(Code::resource_exhausted, Blame::user, "the layers have more than {} entries",
                        limits_.max_entries);
        }
        if (TRY(add_mark(header.name))) return {};
        if (header.type == codec::TarType::char_device && header.devmajor == 0 && header.devminor == 0) {
            // How overlay writes a whiteout.
            auto paths = paths_.lock();
            listing_.whiteouts.push_back(TRY(paths->add(header.name)));
            return {};
        }
        Entry entry;
        entry.kind = kind_of(header.type);
        entry.hard_link = header.type == codec::TarType::hard_link;
        entry.mode = static_cast<std::uint16_t>(header.mode & 07777U);
        entry.uid = header.uid;
        entry.gid = header.gid;
        entry.mtime_s = header.mtime_ns / 1'000'000'000;
        entry.xattrs = hash_of(header.xattrs);
        {
            auto paths = paths_.lock();
            entry.path = TRY(paths->add(header.name));
            if (entry.hard_link) entry.link = TRY(paths->add(header.linkname));
        }
        if (entry.kind == Kind::symlink) {
            if (listing_.targets.size() + header.linkname.size() > kMaxTargets) {
                return fail(Code::resource_exhausted, Blame::user, "the layer has too many links");
            }
            entry.target = static_cast<std::uint32_t>(listing_.targets.size());
            listing_.targets += header.linkname;
            listing_.targets += '\0';
            entry.content = beginning(codec::sha256_of(header.linkname));
        } else if (entry.kind == Kind::char_device || entry.kind == Kind::block_device) {
            entry.content = beginning(codec::sha256_of(fmt::format("{}:{}", header.devmajor, header.devminor)));
        } else if (header.type == codec::TarType::file) {
            entry.size = header.size;
            bytes_ += header.size;
            if (bytes_ > kMaxBytes) return fail(Code::resource_exhausted, Blame::user, "the layer is larger than 1TB");
            entry.content = TRY(content_of(tar, header));
        }
        listing_.entries.push_back(entry);
        return {};
    }

    Result<std::array<std::uint8_t, 16>> content_of(codec::TarReader& tar, const codec::TarHeader& header) {
        codec::Sha256 hash;
        if (!header.sparse) {
            while (true) {
                const auto chunk = TRY(tar.chunk());
                if (chunk.empty()) break;
                TRY(check_stop(stop_));
                hash.update(chunk);
            }
        } else if (header.size <= kMaxExpanded) {
            while (const std::size_t got = TRY(tar.read(buffer_))) {
                TRY(check_stop(stop_));
                hash.update(std::span(buffer_).first(got));
            }
        } else {
            for (const auto& segment : header.segments)
                hash.update(fmt::format("{}+{},", segment.offset, segment.length));
            while (true) {
                const auto chunk = TRY(tar.chunk());
                if (chunk.empty()) break;
                TRY(check_stop(stop_));
                hash.update(chunk);
            }
        }
        return beginning(hash.finish());
    }

    Guarded<Paths>& paths_;
    std::atomic<std::uint64_t>& entries_;
    const ListingLimits& limits_;
    const Stop& stop_;
    Bytes buffer_;
    Listing listing_;
    std::uint64_t bytes_ = 0;
};

Result<Listing> read_layer(const LayerSource& layer, Guarded<Paths>& paths, std::atomic<std::uint64_t>& entries,
                           const ListingLimits& limits, const Stop& stop) {
    const auto plain = TRY(codec::decompress_any(TRY(layer.open(stop))));
    return Reader(paths, entries, limits, stop).read(*plain.source);
}

}  // namespace

std::string_view kind_name(Kind kind) {
    switch (kind) {
        case Kind::file:
            return "file";
        case Kind::directory:
            return "directory";
        case Kind::symlink:
            return "link";
        case Kind::char_device:
        case Kind::block_device:
            return "device";
        case Kind::fifo:
            return "fifo";
    }
    UNREACHABLE();
}

Result<Listings> read_layers(const std::vector<const Image*>& images, const ListingLimits& limits, std::size_t threads,
                             const Stop& stop) {
    struct Job {
        const Image* image;
        std::size_t number;
    };
    std::vector<Job> jobs;
    std::map<Digest, std::size_t> job_of;
    std::vector<std::size_t> wanted;
    for (const Image* image : images) {
        for (std::size_t i = 0; i < image->layers.size(); ++i) {
            const Digest& diff_id = image->layers[i].diff_id;
            const auto known = diff_id.empty() ? job_of.end() : job_of.find(diff_id);
            wanted.push_back(known == job_of.end() ? jobs.size() : known->second);
            if (known != job_of.end()) continue;
            if (!diff_id.empty()) job_of.emplace(diff_id, jobs.size());
            jobs.push_back({.image = image, .number = i});
        }
    }
    Guarded<Paths> paths;
    std::atomic<std::uint64_t> entries = 0;
    std::vector<std::shared_ptr<const Listing>> read(jobs.size());
    TRY(parallel_for(jobs.size(), threads, [&](std::size_t i) -> Result<> {
        const Job& job = jobs[i];
        read[i] = std::make_shared<const Listing>(
            TRY_CONTEXT(read_layer(job.image->layers[job.number], paths, entries, limits, stop), "layer {} of {}",
                        job.number + 1, job.image->name));
        return {};
    }));
    Listings out;
    out.paths = std::move(*paths.lock());
    for (const std::size_t job : wanted) out.layers.push_back(read[job]);
    return out;
}

}  // namespace cooper::inside
