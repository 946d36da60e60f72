#include "layer/apply.hpp"

#include "layer/archive.hpp"
#include "layer/diff.hpp"
#include "sys/temp_dir.hpp"
#include "sys/xattr.hpp"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace cooper::layer {
namespace {

using codec::TarHeader;
using codec::TarType;

TarHeader entry(std::string name, TarType type, std::string linkname = {}) {
    TarHeader header{.name = std::move(name), .linkname = std::move(linkname), .type = type, .mode = 0755};
    header.mtime_ns = 1'000'000'000'000'000'000;
    return header;
}

// A tar of entries; files hold their own name.
class Builder {
public:
    Builder& add(TarHeader header) {
        if (header.type == TarType::file) header.size = header.name.size();
        EXPECT_TRUE(tar_.write_header(header));
        if (header.type == TarType::file) {
            EXPECT_TRUE(tar_.write_body(as_bytes(header.name)));
        }
        return *this;
    }
    Builder& file(std::string name) { return add(entry(std::move(name), TarType::file)); }
    Builder& dir(std::string name) { return add(entry(std::move(name), TarType::directory)); }
    std::string text() {
        EXPECT_TRUE(tar_.finish());
        return out_.text;
    }

private:
    StringSink out_;
    codec::TarWriter tar_{out_};
};

class Apply : public ::testing::Test {
protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root";
        temp_ = std::move(*sys::TempDir::create(::testing::TempDir(), "apply"));
        ASSERT_TRUE(temp_.dir().make_dirs("root", 0755));
        root_ = std::move(*temp_.dir().open_dir("root"));
    }
    Result<ApplyStats> apply(Builder& tar, ApplyLimits limits = {}) {
        StringSource source(tar.text());
        return apply_layer_tar(source, root_, limits, Stop());
    }
    std::string write(DiffOptions options = {}) {
        StringSink out;
        codec::TarWriter tar(out);
        const auto stats = write_layer_tar(root_, tar, options, Stop());
        EXPECT_TRUE(stats) << stats.error().to_string();
        EXPECT_TRUE(tar.finish());
        return out.text;
    }
    std::vector<std::string> names(const std::string& text) {
        StringSource source(text);
        codec::TarReader tar(source);
        std::vector<std::string> out;
        while (const TarHeader* header = *tar.next()) out.push_back(header->name);
        return out;
    }
    std::string content(const std::string& path) {
        const auto text = root_.read_file(path, 1000);
        return text ? *text : "error: " + text.error().to_string();
    }
    bool is_whiteout(const std::string& path) {
        const auto st = root_.stat(path, sys::Follow::no);
        return st && S_ISCHR(st->st_mode) && st->st_rdev == 0;
    }
    bool is_opaque(const std::string& path) {
        const auto dir = root_.open_dir(path);
        return dir && *sys::find_xattr(dir->fd(), "trusted.overlay.opaque") == "y";
    }
    sys::TempDir temp_;
    sys::RootedDir root_;
};

TEST_F(Apply, RoundTripGivesTheSameBytes) {
    auto suid = entry("bin/su", TarType::file);
    suid.mode = 04755;
    suid.uid = 12;
    suid.gid = 3'000'000;
    suid.xattrs["user.note"] = "hi";
    auto device = entry("dev/zero", TarType::char_device);
    device.devmajor = 1;
    device.devminor = 5;
    Builder tar;
    auto link = suid;  // its owner and mode count, too
    link.name = "bin/sudo";
    link.type = TarType::hard_link;
    link.linkname = "bin/su";
    tar.dir("bin/").add(suid).add(link);
    tar.add(entry("bin/x", TarType::symlink, "/etc/../su")).dir("dev/").add(device);
    tar.add(entry("dev/pipe", TarType::fifo)).dir("gone/").file("gone/.wh..wh..opq").file("gone/\xFF").file(".wh.old");
    const auto stats = apply(tar);
    ASSERT_TRUE(stats) << stats.error().to_string();
    EXPECT_EQ(stats->whiteouts, 2U);
    EXPECT_TRUE(stats->implied_dirs.empty());
    EXPECT_TRUE(is_whiteout("old"));
    EXPECT_TRUE(is_opaque("gone"));
    EXPECT_EQ(root_.stat("bin/su", sys::Follow::no)->st_mode & 07777, 04755U);
    EXPECT_EQ(root_.stat("bin", sys::Follow::no)->st_mtim.tv_sec, 1'000'000'000);
    const std::string text = write();
    EXPECT_EQ(names(text),
              (std::vector<std::string>{"bin/", "bin/su", "bin/sudo", "bin/x", "dev/", "dev/pipe", "dev/zero", "gone/",
                                        "gone/.wh..wh..opq", "gone/\xFF", ".wh.old"}));
    EXPECT_EQ(text, write());
    // And once more through a second directory.
    ASSERT_TRUE(temp_.dir().make_dirs("again", 0755));
    root_ = std::move(*temp_.dir().open_dir("again"));
    StringSource source(text);
    ASSERT_TRUE(apply_layer_tar(source, root_, {}, Stop()));
    const DiffOptions epoch{.epoch_s = 1'000'000'000, .epoch_use = EpochUse::set};
    EXPECT_EQ(write(epoch).size(), text.size());
}

TEST_F(Apply, NothingLeavesTheRoot) {
    for (const char* name : {"../evil", "a/../../evil", "/../evil"}) {
        Builder tar;
        tar.file(name);
        EXPECT_EQ(apply(tar).error().code(), Code::invalid_argument) << name;
    }
    Builder links;
    links.add(entry("up", TarType::symlink, "../..")).add(entry("abs", TarType::symlink, "/"));
    links.file("up/evil").file("abs/evil2").add(entry("last", TarType::symlink, "/evil3")).file("last");
    ASSERT_TRUE(apply(links));
    EXPECT_EQ(content("evil"), "up/evil");
    EXPECT_EQ(content("evil2"), "abs/evil2");
    EXPECT_EQ(content("last"), "last");
    EXPECT_FALSE(root_.stat("evil3", sys::Follow::no));
    const auto outside = *sys::list_dir(temp_.dir().fd());
    EXPECT_EQ(outside.size(), 1U);
    Builder hard;
    hard.add(entry("h", TarType::hard_link, "../../etc/passwd"));
    EXPECT_FALSE(apply(hard));
    Builder missing;
    missing.add(entry("h", TarType::hard_link, "/etc/passwd"));
    EXPECT_FALSE(apply(missing));
}

TEST_F(Apply, LaterEntriesWin) {
    Builder tar;
    tar.file("a").file("a").dir("b/").file("b/x").file("b").file("c").dir("c/").file("c/y").file("d").file(".wh.d");
    tar.file(".wh.e").dir("e/").file("e/z").file(".wh.f").file("f/new").dir("g/").file("g/1").dir("g/");
    tar.dir("h/").file("h/1").file(".wh.h").file("i/1").file(".wh.i").file("k").add(entry("k", TarType::char_device));
    tar.add(entry("l", TarType::char_device)).file("i/.wh..wh..opq").file("m").dir("m/").file("m/1").file("m");
    const auto stats = apply(tar);
    ASSERT_TRUE(stats) << stats.error().to_string();
    EXPECT_EQ(content("b"), "b");
    EXPECT_EQ(content("c/y"), "c/y");
    EXPECT_TRUE(is_opaque("c"));
    // A whiteout hides what lower layers have, not what its own layer has.
    EXPECT_EQ(content("d"), "d");
    EXPECT_TRUE(is_opaque("h"));
    EXPECT_EQ(content("h/1"), "h/1");
    EXPECT_TRUE(is_opaque("i"));
    EXPECT_EQ(content("i/1"), "i/1");
    EXPECT_EQ(content("k"), "k");
    EXPECT_TRUE(is_whiteout("l"));
    EXPECT_EQ(content("m"), "m");
    EXPECT_TRUE(is_opaque("e"));
    EXPECT_TRUE(is_opaque("f"));
    EXPECT_EQ(content("f/new"), "f/new");
    EXPECT_EQ(content("g/1"), "g/1");
    EXPECT_FALSE(is_opaque("g"));
    EXPECT_EQ(stats->implied_dirs, (std::vector<std::string>{"f", "i"}));
}

TEST_F(Apply, HardLinksMayComeBeforeWhatTheyName) {
    const auto link = [](std::string name, std::string target) {
        return entry(std::move(name), TarType::hard_link, std::move(target));
    };
    Builder tar;
    tar.dir("d/").dir("e/").dir("gone/").add(entry("s", TarType::symlink, "d"));
    tar.add(link("d/one", "file")).add(link("d/two", "d/three")).add(link("d/three", "d/one"));
    tar.add(link("s/four", "file")).add(entry("s", TarType::symlink, "e"));
    tar.add(link("replaced", "never")).file("replaced").add(link("gone/below", "never"));
    tar.file("gone").add(link("hidden", "file")).file(".wh.hidden").file("file");
    tar.add(link("file", "file"));
    const auto stats = apply(tar);
    ASSERT_TRUE(stats) << stats.error().to_string();
    const auto inode = root_.stat("file", sys::Follow::no)->st_ino;
    for (const char* name : {"d/one", "d/two", "d/three", "d/four", "hidden"}) {
        EXPECT_EQ(root_.stat(name, sys::Follow::no)->st_ino, inode) << name;
    }
    EXPECT_EQ(root_.stat("file", sys::Follow::no)->st_nlink, 6U);
    EXPECT_EQ(content("file"), "file");
    EXPECT_EQ(content("replaced"), "replaced");
    EXPECT_EQ(content("gone"), "gone");
}

TEST_F(Apply, OverlayAttributesOfArchivesAreDropped) {
    auto dir = entry("d/", TarType::directory);
    dir.xattrs["trusted.overlay.opaque"] = "y";
    dir.xattrs["trusted.overlay.redirect"] = "/etc";
    Builder tar;
    tar.add(dir);
    ASSERT_TRUE(apply(tar));
    EXPECT_FALSE(is_opaque("d"));
    EXPECT_FALSE(*sys::find_xattr(root_.open_dir("d")->fd(), "trusted.overlay.redirect"));
}

TEST_F(Apply, DirectoriesKeepTheirTimesWhateverIsMadeInThem) {
    Builder tar;
    const auto dir = [](std::string name, std::int64_t seconds) {
        auto header = entry(std::move(name), TarType::directory);
        header.mtime_ns = seconds * 1'000'000'000;
        return header;
    };
    tar.add(dir("/", 1)).add(dir("a", 2)).add(dir("a/b", 3)).file("a/b/f").file("a/g").file("top").file("a/b/f");
    tar.add(dir("c", 4)).add(entry("c/late", TarType::hard_link, "a/h")).file("a/h").add(dir("e/f", 5)).file("e/f/x");
    tar.add(dir("e", 6)).file("a/new/parents/f").add(entry("way", TarType::symlink, "c")).file("way/f").file("d/f");
    tar.add(dir("d", 8)).add(dir("a/b", 9)).file("c/.wh.gone").file("c/gone/f").file("a/b/.wh..wh..opq");
    ASSERT_TRUE(apply(tar));
    const auto time = [&](const std::string& path) {
        const auto st = root_.stat(path, sys::Follow::no);
        return st ? std::pair(st->st_mtim.tv_sec, st->st_mtim.tv_nsec) : std::pair(0L, 0L);
    };
    EXPECT_EQ(time("/"), std::pair(1L, 0L));
    EXPECT_EQ(time("a"), std::pair(2L, 0L));
    EXPECT_EQ(time("a/b"), std::pair(9L, 0L));
    EXPECT_EQ(time("c"), std::pair(4L, 0L));
    EXPECT_EQ(time("e/f"), std::pair(5L, 0L));
    EXPECT_EQ(time("e"), std::pair(6L, 0L));
    EXPECT_EQ(time("d"), std::pair(8L, 0L));
    EXPECT_EQ(content("c/late"), "a/h");
}

TEST_F(Apply, WhatIsWhitedOutIsNoTargetOfALink) {
    Builder tar;
    tar.file(".wh.a").add(entry("b", TarType::hard_link, "a")).file("a").file(".wh.gone");
    ASSERT_TRUE(apply(tar));
    EXPECT_EQ(content("b"), "a");
    Builder again;
    const auto refused = apply(again.add(entry("c", TarType::hard_link, "gone")));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().to_string(), "layer entry \"c\": hard link to \"gone\", which is not in the layer");
}

TEST_F(Apply, RefusesWithOneClearError) {
    const auto message = [&](TarHeader header, ApplyLimits limits = {}) {
        Builder tar;
        tar.file("plain").add(std::move(header));
        const auto result = apply(tar, limits);
        return result ? std::string("accepted") : result.error().to_string();
    };
    EXPECT_EQ(message(entry("plain/below", TarType::file)), "layer entry \"plain/below\": \"plain\" is no directory");
    EXPECT_NE(message(entry("/", TarType::fifo)).find("root of a layer must be a directory"), std::string::npos);
    EXPECT_NE(message(entry(".wh.", TarType::file)).find("whiteout without a name"), std::string::npos);
    EXPECT_NE(message(entry(".wh...", TarType::file)).find("whiteout without a name"), std::string::npos);
    EXPECT_NE(message(entry(std::string(256, 'n'), TarType::file)).find("more than 255"), std::string::npos);
    EXPECT_NE(message(entry("x", TarType::file), {.max_bytes = 5}).find("bigger than 5"), std::string::npos);
    EXPECT_NE(message(entry("x", TarType::file), {.max_entries = 1}).find("more than 1 entries"), std::string::npos);
    EXPECT_EQ(message(entry("l", TarType::hard_link, "never")),
              "layer entry \"l\": hard link to \"never\", which is not in the layer");
    EXPECT_NE(message(entry("self", TarType::hard_link, "self")).find("leads back to it"), std::string::npos);
    EXPECT_NE(message(entry("out", TarType::hard_link, "../../etc/hostname")).find("out"), std::string::npos);
    EXPECT_EQ(message(entry(".wh..wh.plnk/1.2", TarType::file)), "accepted");
    EXPECT_FALSE(root_.stat(".wh..wh.plnk", sys::Follow::no));
}

TEST_F(Apply, DetectsAndUnpacksArchives) {
    class Recorder final : public ArchiveSink {
    public:
        Result<> directory(const std::string& path, const ArchiveMetadata&) override { return log("d " + path); }
        Result<> file(const std::string& path, const ArchiveMetadata&, std::uint64_t size, ByteSource& body) override {
            const std::string text = TRY(read_all(body, 1000));
            EXPECT_EQ(text.size(), size);
            return log("f " + path + " " + text);
        }
        Result<> symlink(const std::string& path, const std::string& to, const ArchiveMetadata&) override {
            return log("s " + path + " " + to);
        }
        Result<> hard_link(const std::string& path, const std::string& to, const ArchiveMetadata&) override {
            return log("h " + path + " " + to);
        }
        Result<> device(const std::string& path, DeviceKind, std::uint32_t, std::uint32_t,
                        const ArchiveMetadata&) override {
            return log("n " + path);
        }
        std::vector<std::string> lines;

    private:
        Result<> log(std::string line) { return lines.push_back(std::move(line)), Result<>(); }
    };
    Builder tar;
    tar.dir("./a/")
        .file("./a/.wh.f")
        .add(entry("l", TarType::symlink, "../x"))
        .add(entry("h", TarType::hard_link, "a/.wh.f"));
    StringSink packed;
    auto gzip = std::move(*codec::make_compressor(packed, codec::Compression::gzip, codec::kDefaultLevel, 1));
    ASSERT_TRUE(gzip->write(as_bytes(tar.text())));
    ASSERT_TRUE(gzip->finish());
    const auto detect = [&](std::string_view text) {
        sys::Fd fd = std::move(*root_.open("probe", O_RDWR | O_CREAT | O_TRUNC, sys::Follow::no, 0600));
        EXPECT_TRUE(sys::write_all(fd.get(), text));
        return *detect_archive(fd.get());
    };
    EXPECT_EQ(detect(packed.text), codec::Compression::gzip);
    EXPECT_EQ(detect("no archive"), std::nullopt);
    EXPECT_EQ(detect(std::string(4096, '\0')), std::nullopt);
    EXPECT_EQ(detect("PK\x03\x04 zip"), std::nullopt);
    Recorder recorder;
    ASSERT_TRUE(extract_archive(std::make_unique<StringSource>(packed.text), recorder, {}, Stop()));
    EXPECT_EQ(recorder.lines, (std::vector<std::string>{"d /a", "f /a/.wh.f ./a/.wh.f", "s /l ../x", "h /h /a/.wh.f"}));
    Builder evil;
    evil.file("../x");
    EXPECT_FALSE(extract_archive(std::make_unique<StringSource>(evil.text()), recorder, {}, Stop()));
}

}  // namespace
}  // namespace cooper::layer
