#include "cachemount/chunker.hpp"
#include "cachemount/loaded.hpp"
#include "cachemount/merge.hpp"
#include "cachemount/sync.hpp"
#include "codec/sha256.hpp"
#include "codec/zstd_frame.hpp"
#include "sys/temp_dir.hpp"
#include "sys/xattr.hpp"

#include <chrono>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>
#include <random>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace cooper::cachemount {
namespace {

namespace fs = std::filesystem;

// Blobs and heads in memory. Knows the heads' order, as an object store with conditional writes does.
class MemoryPlace final : public Place {
public:
    std::map<std::string, std::string> heads;
    std::map<Digest, std::string> blobs;
    std::uint64_t got = 0, taken = 0;
    std::function<void()> before_write;
    std::function<void()> after_write;

    [[nodiscard]] std::string identity() const override { return "memory"; }
    Result<std::optional<std::string>> read_head(const std::string& name, const Stop& /*stop*/) override {
        const auto found = heads.find(name);
        return found == heads.end() ? std::optional<std::string>() : std::optional(found->second);
    }
    Result<> write_head(const std::string& name, const std::string& manifest, const std::optional<std::string>& before,
                        const Stop& stop) override {
        if (before_write) std::exchange(before_write, {})();
        if (TRY(read_head(name, stop)) != before) return fail(Code::aborted, Blame::world, "another one by now");
        heads[name] = manifest;
        got += manifest.size();
        return {};
    }
    Result<> settle(const Stop& /*stop*/) override {
        if (after_write) std::exchange(after_write, {})();
        return {};
    }
    Result<> put(const oci::Descriptor& blob, std::string bytes, const Stop& /*stop*/) override {
        EXPECT_EQ(codec::sha256_of(bytes), blob.digest);
        if (blobs.contains(blob.digest)) return {};
        got += bytes.size();
        blobs[blob.digest] = std::move(bytes);
        return {};
    }
    Result<std::string> read(const oci::Descriptor& blob, std::uint64_t offset, std::uint64_t length,
                             const Stop& /*stop*/) override {
        const auto found = blobs.find(blob.digest);
        if (found == blobs.end()) return fail(Code::not_found, Blame::world, "no such blob");
        if (blob.media_type == kPackType) taken += length;
        std::string bytes = found->second.substr(offset, length);
        if (bytes.size() != length) return fail(Code::data_loss, Blame::world, "too short");
        return bytes;
    }
};

// A machine: a mount and what it remembers.
class Machine {
public:
    Machine()
        : temp_(sys::TempDir::create("/tmp", "cachemount-").value()),
          files_((fs::create_directory(temp_.path() + "/fs"), sys::RootedDir::open_host(temp_.path() + "/fs").value())),
          side_(sys::RootedDir::open_host(temp_.path()).value()) {}
    [[nodiscard]] std::string path(const std::string& name) const { return temp_.path() + "/fs/" + name; }
    void write(const std::string& name, std::string_view content) const {
        fs::create_directories(fs::path(path(name)).parent_path());
        std::ofstream(path(name), std::ios::binary) << content;
    }
    [[nodiscard]] std::string read(const std::string& name) const {
        std::ifstream in(path(name), std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    [[nodiscard]] bool has(const std::string& name) const { return fs::exists(fs::symlink_status(path(name))); }
    Saved save(Place& place, const std::string& scope = "main", std::vector<std::string> also = {}) const {
        const auto saved = cachemount::save(place, {scope, "/cache", scope, std::move(also)}, {files_, side_}, Stop());
        EXPECT_TRUE(saved) << saved.error().to_string();
        return saved.value_or(Saved{});
    }
    Result<std::optional<Restored>> try_restore(Place& place, std::vector<std::string> scopes = {"main"}) const {
        return cachemount::restore(place, scopes, {files_, side_}, Stop());
    }
    Restored restore(Place& place, std::vector<std::string> scopes = {"main"}) const {
        const auto restored = try_restore(place, std::move(scopes));
        EXPECT_TRUE(restored) << restored.error().to_string();
        EXPECT_TRUE(restored && *restored);
        return restored && *restored ? **restored : Restored{};
    }

private:
    sys::TempDir temp_;
    sys::RootedDir files_, side_;
};

std::string noise(std::size_t size, unsigned seed) {
    std::mt19937_64 random(seed);
    std::string text(size, '\0');
    for (auto& c : text) c = static_cast<char>(random());
    return text;
}

std::vector<std::string> cut_up(std::string_view text) {
    std::vector<std::string> chunks;
    const ChunkSizes sizes = chunk_sizes_for(text.size());
    while (!text.empty()) {
        const std::size_t length = first_chunk(as_bytes(text), sizes);
        chunks.emplace_back(text.substr(0, length));
        text.remove_prefix(length);
    }
    return chunks;
}

TEST(Chunker, AChangeLeavesTheChunksAroundIt) {
    const std::string before = noise(1 << 20, 1);
    std::string after = before;
    after.insert(500'000, "something new");
    const auto one = cut_up(before), other = cut_up(after);
    const std::set<std::string> had(one.begin(), one.end());
    std::size_t fresh = 0;
    for (const auto& chunk : other) fresh += had.contains(chunk) ? 0U : 1U;
    EXPECT_LE(fresh, 3U);
    const ChunkSizes sizes = chunk_sizes_for(before.size());
    for (std::size_t i = 0; i + 1 < one.size(); ++i) {
        EXPECT_GE(one[i].size(), sizes.least);
        EXPECT_LE(one[i].size(), sizes.most);
    }
    EXPECT_NEAR(static_cast<double>(before.size()) / static_cast<double>(one.size()), static_cast<double>(sizes.usual),
                static_cast<double>(sizes.usual) / 2);
    // Without anything to cut at: the largest ones.
    EXPECT_EQ(cut_up(std::string(100'000, 'x')).front().size(), sizes.most);
}

TEST(CacheMount, EverythingAboutFilesComesBack) {
    MemoryPlace place;
    const Machine here, there;
    here.write("deep/er/file", noise(300'000, 2));
    here.write("empty", "");
    here.write("-name with \n newline", "x");
    fs::create_symlink("../nowhere", here.path("deep/link"));
    fs::create_hard_link(here.path("deep/er/file"), here.path("again"));
    ASSERT_EQ(::chmod(here.path("deep/er/file").c_str(), 04751), 0);
    ASSERT_EQ(::chmod(here.path("deep/er").c_str(), 0700), 0);
    const sys::Fd fd(::open(here.path("empty").c_str(), O_RDONLY));
    const bool xattrs = sys::set_xattr(fd.get(), "user.color", "blue").has_value();
    const bool owners = ::lchown(here.path("deep/link").c_str(), 1, 2) == 0;
    const std::array<timespec, 2> times = {timespec{1'000'000'000, 5}, timespec{1'000'000'000, 5}};
    for (const char* name : {"empty", "deep/link", "deep/er", "deep"})
        ASSERT_EQ(::utimensat(AT_FDCWD, here.path(name).c_str(), times.data(), AT_SYMLINK_NOFOLLOW), 0);
    ASSERT_EQ(::mkfifo(here.path("fifo").c_str(), 0600), 0);
    here.save(place);
    there.restore(place);

    EXPECT_EQ(there.read("deep/er/file"), noise(300'000, 2));
    EXPECT_EQ(there.read("-name with \n newline"), "x");
    EXPECT_FALSE(there.has("fifo"));
    struct stat st{}, other{};
    ASSERT_EQ(::stat(there.path("deep/er/file").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777U, 04751U);
    ASSERT_EQ(::stat(there.path("again").c_str(), &other), 0);
    EXPECT_EQ(st.st_ino, other.st_ino);
    ASSERT_EQ(::stat(there.path("deep/er").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777U, 0700U);
    for (const char* name : {"empty", "deep/link", "deep/er", "deep"}) {
        ASSERT_EQ(::lstat(there.path(name).c_str(), &st), 0);
        EXPECT_EQ(st.st_mtim.tv_sec, 1'000'000'000) << name;
        EXPECT_EQ(st.st_mtim.tv_nsec, 5) << name;
    }
    EXPECT_EQ(fs::read_symlink(there.path("deep/link")), "../nowhere");
    ASSERT_EQ(::lstat(there.path("deep/link").c_str(), &st), 0);
    if (owners) {
        EXPECT_EQ(st.st_gid, 2U);
    }
    const sys::Fd back(::open(there.path("empty").c_str(), O_RDONLY));
    if (xattrs) {
        EXPECT_EQ(sys::find_xattr(back.get(), "user.color").value(), "blue");
    }
    // Nothing more to do on either side.
    EXPECT_EQ(there.restore(place).written, 0U);
    const auto blobs = place.blobs.size();
    EXPECT_EQ(there.save(place).changed, 0U);
    EXPECT_EQ(here.save(place).changed, 0U);
    EXPECT_EQ(place.blobs.size(), blobs);
}

void edit_one_percent(const Machine& machine, const std::string& name, std::size_t size, int places) {
    std::fstream file(machine.path(name), std::ios::binary | std::ios::in | std::ios::out);
    const std::size_t each = size / 100 / static_cast<std::size_t>(places);
    for (int i = 0; i < places; ++i) {
        file.seekp(static_cast<std::streamoff>(size / static_cast<std::size_t>(places) * static_cast<std::size_t>(i)));
        file << noise(each, 1000U + static_cast<unsigned>(i));
    }
}

TEST(CacheMount, OnePercentOfALargeFileIsASmallUpload) {
    MemoryPlace place;
    const Machine here, there;
    constexpr std::size_t kSize = std::size_t{16} << 20U;
    here.write("large", noise(kSize, 3));
    here.save(place);
    there.restore(place);
    edit_one_percent(here, "large", kSize, 20);
    place.got = 0;
    const Saved saved = here.save(place);
    EXPECT_LE(place.got, kSize * 3 / 100);
    EXPECT_GE(place.got, kSize / 100);
    EXPECT_LE(saved.uploaded_bytes, kSize * 3 / 100);
    // And what is here is not fetched.
    const Restored restored = there.restore(place);
    EXPECT_LE(restored.fetched_bytes, kSize * 10 / 100);
    EXPECT_GE(restored.reused_bytes, kSize * 9 / 10);
    EXPECT_TRUE(there.read("large") == here.read("large"));
}

TEST(CacheMount, OnePercentOfManyFilesIsASmallUpload) {
    MemoryPlace place;
    const Machine here;
    std::size_t bytes = 0;
    std::mt19937 random(7);
    for (unsigned i = 0; i < 2000; ++i) {
        const std::size_t size = 500 + random() % 5000;
        here.write(fmt::format("package{}/file{}", i / 40, i), noise(size, i));
        bytes += size;
    }
    here.save(place);
    for (int round = 0; round < 5; ++round) {
        for (unsigned i = 0; i < 20; ++i) {
            const unsigned which = random() % 2000;
            here.write(fmt::format("package{}/file{}", which / 40, which), noise(2500, 100'000 + random()));
        }
        place.got = 0;
        EXPECT_EQ(here.save(place).attempts, 1);
        EXPECT_LE(place.got, bytes * 3 / 100) << round;
    }
}

TEST(CacheMount, ManySmallChangesStayFewBlobs) {
    MemoryPlace place;
    const Machine here, there;
    here.write("large", noise(8 << 20, 4));
    for (unsigned i = 0; i < 60; ++i) {
        here.write(fmt::format("file{}", i % 20), noise(3000, 500 + i));
        here.save(place);
    }
    const Head head = parse_head(place.heads.at("main")).value();
    EXPECT_LE(head.parts.size(), 10U);
    EXPECT_LE(head.packs.size(), 20U);
    there.restore(place);
    for (unsigned i = 40; i < 60; ++i) EXPECT_EQ(there.read(fmt::format("file{}", i % 20)), noise(3000, 500 + i));
}

TEST(CacheMount, TwoWritersArePutTogether) {
    MemoryPlace place;
    const Machine one, other, third;
    one.write("common", "1");
    one.write("goes", "1");
    one.write("stays", "1");
    one.save(place);
    other.restore(place);
    one.write("of-one", "1");
    one.write("common", "of one");
    fs::remove(one.path("goes"));
    fs::remove(one.path("stays"));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the clock of file systems has ticks
    other.write("of-other", "2");
    other.write("common", "of other, later");
    other.write("stays", "changed");
    other.save(place);
    one.save(place);
    third.restore(place);
    EXPECT_EQ(third.read("of-one"), "1");
    EXPECT_EQ(third.read("of-other"), "2");
    EXPECT_EQ(third.read("common"), "of other, later");
    EXPECT_FALSE(third.has("goes"));
    EXPECT_EQ(third.read("stays"), "changed");
    // What the other has removed goes here, too; what it has added comes.
    other.restore(place);
    EXPECT_FALSE(other.has("goes"));
    EXPECT_EQ(other.read("of-one"), "1");
    one.restore(place);
    EXPECT_EQ(one.read("common"), "of other, later");
}

TEST(CacheMount, WhoHasNotMetTheOtherRemovesNothing) {
    MemoryPlace place;
    const Machine one, other, third;
    one.write("a", "1");
    one.save(place);
    other.write("b", "2");
    other.save(place);
    third.restore(place);
    EXPECT_TRUE(third.has("a"));
    EXPECT_TRUE(third.has("b"));
    EXPECT_FALSE(other.has("a"));
    // It has not removed what it never had.
    other.save(place);
    EXPECT_TRUE(load_head(place, place.heads.at("main"), Stop()).value().entries.contains("a"));
}

TEST(CacheMount, AHeadThatWasLostIsWrittenAnewAndNothingWithIt) {
    for (const bool damaged : {false, true}) {
        MemoryPlace place;
        const Machine one, other, third;
        one.write("a", "1");
        one.write("b", "1");
        one.save(place);
        other.restore(place);
        other.write("c", "2");
        if (damaged) {
            place.blobs.clear();
        } else {
            place.heads.clear();
        }
        const Machine stranger;
        stranger.write("d", "3");
        stranger.save(place);
        // What is missing in the new one nobody has removed.
        one.restore(place);
        EXPECT_TRUE(one.has("a"));
        EXPECT_TRUE(one.has("d"));
        other.save(place);
        third.restore(place);
        for (const char* name : {"a", "b", "c", "d"}) EXPECT_TRUE(third.has(name)) << name << damaged;
        one.save(place);
        fs::remove(one.path("a"));
        one.save(place);
        EXPECT_FALSE(load_head(place, place.heads.at("main"), Stop()).value().entries.contains("a"));
    }
}

TEST(CacheMount, AnExchangeMeanwhileIsSeenAndPutTogether) {
    MemoryPlace place;
    const Machine one, other, third;
    one.write("a", "1");
    one.save(place);
    one.write("b", "1");
    other.write("c", "2");
    place.before_write = [&] { other.save(place); };
    EXPECT_EQ(one.save(place).attempts, 2);
    third.restore(place);
    for (const char* name : {"a", "b", "c"}) EXPECT_TRUE(third.has(name)) << name;
}

TEST(CacheMount, WhoIsOverwrittenAfterwardsPutsBothTogether) {
    MemoryPlace place;
    const Machine one, other, third;
    one.write("a", "1");
    one.save(place);
    const std::string first = place.heads.at("main");
    one.write("b", "1");
    other.write("c", "2");
    // The other one has read the first head, and writes when ours has been written and seen.
    place.after_write = [&] {
        const std::string ours = std::exchange(place.heads.at("main"), first);
        other.save(place);
        EXPECT_NE(place.heads.at("main"), ours);
    };
    EXPECT_EQ(one.save(place).attempts, 2);
    third.restore(place);
    for (const char* name : {"a", "b", "c"}) EXPECT_TRUE(third.has(name)) << name;
    // Who has built on ours has lost nothing.
    one.write("d", "1");
    place.after_write = [&] {
        other.write("e", "2");
        other.save(place);
    };
    EXPECT_EQ(one.save(place).attempts, 1);
    third.restore(place);
    for (const char* name : {"a", "b", "c", "d", "e"}) EXPECT_TRUE(third.has(name)) << name;
}

TEST(CacheMount, AFileInThePlaceOfADirectory) {
    MemoryPlace place;
    const Machine one, other;
    one.write("thing/inside", "1");
    one.save(place);
    other.restore(place);
    fs::remove_all(one.path("thing"));
    one.write("thing", "a file now");
    one.save(place);
    other.restore(place);
    // What was inside is gone there, so it goes here first.
    other.restore(place);
    const Machine third;
    third.restore(place);
    EXPECT_EQ(third.read("thing"), "a file now");
}

TEST(CacheMount, ScopesAreAskedInTheirOrderAndSharePacks) {
    MemoryPlace place;
    const Machine main, change, reader;
    main.write("large", noise(4 << 20, 5));
    main.save(place, "main");
    EXPECT_EQ(change.restore(place, {"pr-1", "main"}).name, "main");
    change.write("more", "evil");
    place.got = 0;
    change.save(place, "pr-1", {"main"});
    EXPECT_LE(place.got, 200'000U);
    EXPECT_EQ(reader.restore(place, {"main"}).name, "main");
    EXPECT_FALSE(reader.has("more"));
    const Machine again;
    EXPECT_EQ(again.restore(place, {"pr-1", "main"}).name, "pr-1");
    EXPECT_EQ(again.read("more"), "evil");
    EXPECT_EQ(again.read("large"), noise(4 << 20, 5));
    const Machine stranger;
    EXPECT_FALSE(stranger.try_restore(place, {"pr-2"}).value());
}

TEST(CacheMount, WhatAStepHasChangedMeanwhileStays) {
    MemoryPlace place;
    const Machine one, other;
    one.write("f", "1");
    one.save(place);
    other.restore(place);
    other.write("f", "changed here");
    one.write("g", "2");
    one.save(place);
    other.restore(place);
    EXPECT_EQ(other.read("f"), "changed here");
    EXPECT_EQ(other.read("g"), "2");
}

// --- hostile indexes ---

// A head that says these entries, in a place.
std::string publish(MemoryPlace& place, const Entries& entries, const Pack& pack, const std::string& pack_bytes) {
    Packs packs;
    packs.add(pack);
    codec::ZstdFrames frames(1);
    std::string text = frames.compress(marshal_part({{pack}, entries}, packs)).value();
    Head head;
    oci::Descriptor blob;
    blob.media_type = kPartType;
    blob.digest = codec::sha256_of(text);
    blob.size = text.size();
    head.parts.push_back(blob);
    place.blobs[blob.digest] = std::move(text);
    blob.media_type = kPackType;
    blob.digest = pack.digest;
    blob.size = pack.size;
    head.packs.push_back(blob);
    place.blobs[pack.digest] = pack_bytes;
    return place.heads["main"] = marshal_head(head);
}

struct Forged {
    Pack pack;
    std::string bytes;
};

Forged pack_of(const std::string& content) {
    codec::ZstdFrames frames(1);
    Forged forged;
    forged.bytes = frames.compress(content).value();
    forged.pack.digest = codec::sha256_of(forged.bytes);
    forged.pack.size = forged.bytes.size();
    forged.pack.chunks = {{chunk_id(content), static_cast<std::uint32_t>(content.size())}};
    forged.pack.frames = {
        {0, static_cast<std::uint32_t>(forged.bytes.size()), static_cast<std::uint32_t>(content.size()), 0, 1}};
    return forged;
}

Entry directory() {
    Entry entry;
    entry.type = EntryType::directory;
    entry.mode = 0755;
    entry.uid = ::getuid();
    entry.gid = ::getgid();
    return entry;
}

TEST(HostileIndex, PathsThatLeaveTheMountAreRefused) {
    for (const char* path : {"../out", "a/../../out", "/etc/passwd", "a//b", ".", "a/.", "a/"}) {
        MemoryPlace place;
        const Machine here;
        const Forged forged = pack_of("evil");
        Entry file = directory();
        file.type = EntryType::file;
        file.chunks = forged.pack.chunks;
        publish(place, {{"", directory()}, {"a", directory()}, {path, file}}, forged.pack, forged.bytes);
        const auto restored = here.try_restore(place);
        ASSERT_FALSE(restored) << path;
        EXPECT_EQ(restored.error().code(), Code::data_loss) << path;
        EXPECT_FALSE(here.has("a")) << path;
    }
}

TEST(HostileIndex, NothingIsWrittenThroughALink) {
    MemoryPlace place;
    const Machine here;
    const Forged forged = pack_of("evil");
    const auto outside = sys::TempDir::create("/tmp", "outside-").value();
    Entry link = directory();
    link.type = EntryType::symlink;
    link.link = outside.path();
    Entry file = directory();
    file.type = EntryType::file;
    file.chunks = forged.pack.chunks;
    publish(place, {{"", directory()}, {"a", link}, {"a/file", file}}, forged.pack, forged.bytes);
    ASSERT_TRUE(here.try_restore(place));
    EXPECT_TRUE(fs::is_empty(outside.path()));
    // A link that was here before, and a directory that is said to be in its place.
    const Machine other;
    fs::create_symlink(outside.path(), other.path("a"));
    publish(place, {{"", directory()}, {"a", directory()}, {"a/file", file}}, forged.pack, forged.bytes);
    ASSERT_TRUE(other.try_restore(place));
    EXPECT_TRUE(fs::is_empty(outside.path()));
}

TEST(HostileIndex, WhatIsNotWhatItSaysIsNotWritten) {
    MemoryPlace place;
    const Machine here;
    Forged forged = pack_of("what it says");
    forged.pack.chunks[0].id = chunk_id("something else");
    Entry file = directory();
    file.type = EntryType::file;
    file.chunks = forged.pack.chunks;
    publish(place, {{"", directory()}, {"file", file}}, forged.pack, forged.bytes);
    const auto restored = here.try_restore(place);
    ASSERT_FALSE(restored);
    EXPECT_EQ(restored.error().code(), Code::data_loss);
    EXPECT_FALSE(here.has("file"));
}

TEST(HostileIndex, SizesAreBounded) {
    Forged forged = pack_of(std::string(1000, 'x'));
    const auto parsed = [](const Pack& pack) {
        Packs packs, known;
        packs.add(pack);
        return parse_part(marshal_part({{pack}, {}}, packs), known);
    };
    EXPECT_TRUE(parsed(forged.pack));
    Pack large = forged.pack;
    large.chunks[0].size = kMaxChunkBytes + 1;
    EXPECT_FALSE(parsed(large));
    large = forged.pack;
    large.chunks.assign(100, {forged.pack.chunks[0].id, kMaxChunkBytes});
    large.frames[0].chunks = 100;
    EXPECT_FALSE(parsed(large));
    large = forged.pack;
    large.size += 1;
    EXPECT_FALSE(parsed(large));
    // One chunk named more often than any mount needs.
    Entry file = directory();
    file.type = EntryType::file;
    std::vector<Part> parts(1);
    Entries& entries = parts[0].entries;
    entries[""] = directory();
    file.chunks.assign(kMaxChunks + 1, forged.pack.chunks[0]);
    entries["file"] = file;
    EXPECT_FALSE(join_parts(parts));
}

TEST(HostileIndex, CutAndChangedTextsAreRefusedAndNeverCrash) {
    MemoryPlace place;
    const Machine here;
    for (unsigned i = 0; i < 20; ++i) here.write(fmt::format("d/file{}", i), noise(20'000, i));
    here.save(place);
    const Loaded loaded = load_head(place, place.heads.at("main"), Stop()).value();
    const std::string text = marshal_part({loaded.there.all(), loaded.entries}, loaded.there);
    std::mt19937 random(1);
    for (int i = 0; i < 3000; ++i) {
        std::string broken = text;
        if (i % 3 == 0) broken.resize(random() % broken.size());
        for (int n = 0; n < 1 + i % 4 && !broken.empty(); ++n)
            broken[random() % broken.size()] = static_cast<char>(random());
        Packs known;
        if (auto part = parse_part(broken, known)) static_cast<void>(join_parts({*part}));
    }
    EXPECT_FALSE(parse_head("{}"));
    EXPECT_FALSE(parse_head(R"({"schemaVersion":2,"layers":[]})"));
}

}  // namespace
}  // namespace cooper::cachemount
