// Blobs: files named by their digest, written once. A name is given only to bytes whose digest has been
// computed on the way in.
#include "base/text.hpp"
#include "store/store.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace cooper::store {

std::string Store::blob_path(const Digest& digest) const { return "blobs/sha256/" + digest.hex(); }

Result<Ingest> Store::begin_blob() {
    Ingest ingest;
    ingest.store_ = this;
    ingest.name_ = "tmp/" + TRY(new_temp_name());
    ingest.file_ = TRY(dir_.open(ingest.name_, O_RDWR | O_CREAT | O_EXCL, sys::Follow::no, 0644));
    return ingest;
}

Result<Ingest> Store::resume_blob(const Digest& digest, const Stop& stop) {
    if (digest.algorithm() != Digest::Algorithm::sha256)
        return bad_input("only sha256 blobs are supported: {}", digest.to_string());
    Ingest ingest;
    ingest.store_ = this;
    ingest.resumable_ = true;
    ingest.name_ = "tmp/partial-" + digest.hex();
    // One writer at a time; the lock is on the file itself, so it is opened again when it was renamed away.
    while (true) {
        ingest.lock_ = TRY(sys::FileLock::acquire_at(dir_.fd(), ingest.name_, sys::LockMode::exclusive, stop));
        struct stat locked{};
        struct stat named{};
        if (::fstat(ingest.lock_.fd(), &locked) == 0 && ::fstatat(dir_.fd(), ingest.name_.c_str(), &named, 0) == 0 &&
            locked.st_ino == named.st_ino) {
            break;
        }
    }
    ingest.file_ = TRY(dir_.open(ingest.name_, O_RDWR, sys::Follow::no, 0));
    std::vector<std::byte> buffer(256 * 1024);
    while (true) {  // what is there already is hashed again: it may have been cut anywhere
        const std::size_t n = TRY(sys::read_some(ingest.file_.get(), buffer));
        if (n == 0) break;
        ingest.hash_.update(std::span<const std::byte>(buffer).first(n));
        ingest.size_ += n;
        TRY(check_stop(stop));
    }
    return ingest;
}

Ingest::~Ingest() {
    if (store_ == nullptr || !file_.valid() || resumable_) return;
    ::unlinkat(store_->dir_.fd(), name_.c_str(), 0);
}

void Ingest::discard() {
    if (!file_.valid()) return;
    ::unlinkat(store_->dir_.fd(), name_.c_str(), 0);
    file_ = sys::Fd();
}

Result<> Ingest::write(std::span<const std::byte> data) {
    TRY(store_->space_->charge(data.size(), "a blob"));
    TRY_CONTEXT(sys::write_all(file_.get(), data), "write blob");
    hash_.update(data);
    size_ += data.size();
    return {};
}

Result<oci::Descriptor> Ingest::commit(const std::optional<Digest>& expected) && {
    const Digest actual = hash_.finish();
    if (expected && *expected != actual) {
        discard();
        return fail(Code::data_loss, Blame::world, "wrong digest: wanted {}, got {}", expected->to_string(),
                    actual.to_string());
    }
    const std::string path = store_->blob_path(actual);
    ::fchmod(file_.get(), 0644);
    if (::renameat(store_->dir_.fd(), name_.c_str(), store_->dir_.fd(), path.c_str()) != 0) {
        return fail_errno(errno, "keep blob " + actual.to_string());
    }
    TRY(std::move(file_).close());
    oci::Descriptor descriptor;
    descriptor.digest = actual;
    descriptor.size = static_cast<decltype(descriptor.size)>(size_);
    return descriptor;
}

Result<oci::Descriptor> Store::put_blob(std::string_view bytes, std::string media_type) {
    oci::Descriptor descriptor;
    descriptor.digest = codec::sha256_of(bytes);
    descriptor.size = static_cast<decltype(descriptor.size)>(bytes.size());
    if (const auto present = TRY(blob_size(descriptor.digest)); !present || *present != bytes.size()) {
        Ingest ingest = TRY(begin_blob());
        TRY(ingest.write(as_bytes(bytes)));
        TRY(std::move(ingest).commit(descriptor.digest));
    }
    descriptor.media_type = std::move(media_type);
    return descriptor;
}

Result<std::optional<std::uint64_t>> Store::blob_size(const Digest& digest) {
    struct stat st{};
    if (::fstatat(dir_.fd(), blob_path(digest).c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) return std::optional<std::uint64_t>{};
        return fail_errno(errno, "blob " + digest.to_string());
    }
    // Whoever asks may count on it from here on: pruning spares what has been touched since the oldest build began.
    if (st.st_ctim.tv_sec < now() / 1'000'000'000 - 1)
        ::utimensat(dir_.fd(), blob_path(digest).c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
    return std::optional<std::uint64_t>(static_cast<std::uint64_t>(st.st_size));
}

Result<sys::Fd> Store::open_blob(const Digest& digest) {
    return TRY_CONTEXT(dir_.open(blob_path(digest), O_RDONLY, sys::Follow::no, 0), "blob {}", digest.to_string());
}

Result<std::string> Store::read_blob(const Digest& digest, std::size_t limit_bytes) {
    const sys::Fd file = TRY(open_blob(digest));
    std::string bytes = TRY_CONTEXT(sys::read_to_end(file.get(), limit_bytes), "blob {}", digest.to_string());
    if (codec::sha256_of(bytes) != digest) {
        // Lost with the power before it was on the disk; better gone than wrong.
        ::unlinkat(dir_.fd(), blob_path(digest).c_str(), 0);
        return fail(Code::data_loss, Blame::world, "blob {} was damaged on disk and has been removed",
                    digest.to_string())
            .with_hint("run the command again: it will be fetched or made anew");
    }
    return bytes;
}

}  // namespace cooper::store
