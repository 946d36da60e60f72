// What the tests of this room share: a store in a temporary directory with layers made by hand.
#pragma once

#include "codec/compression.hpp"
#include "exporter/packer.hpp"
#include "sys/process.hpp"
#include "sys/temp_dir.hpp"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace cooper::exporter {

#define ASSERT_OK(result) ASSERT_TRUE(result) << (result).error().to_string()

inline std::string file_text(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

class StoreTest : public ::testing::Test {
protected:
    void SetUp() override {
        auto temp = sys::TempDir::create(::testing::TempDir(), "exporter");
        ASSERT_OK(temp);
        temp_ = std::move(*temp);
        auto store = store::Store::open(path("state"), clock_);
        ASSERT_OK(store);
        store_ = std::move(*store);
    }

    [[nodiscard]] std::string path(const std::string& name) const { return temp_.path() + "/" + name; }

    // Files by path; "name -> target" makes a link, "-name" a whiteout, "name/" a directory.
    store::LayerId make_layer(const std::map<std::string, std::string>& files, const std::string& description) {
        auto draft = store_->begin_layer().value();
        const std::string root = draft.host_path() + "/";
        for (const auto& [name, text] : files) {
            const auto parent = std::filesystem::path(root + name).parent_path();
            std::filesystem::create_directories(parent);
            if (name.ends_with('/')) continue;
            if (text.starts_with("-> ")) {
                std::filesystem::create_symlink(text.substr(3), root + name);
            } else if (text == "(whiteout)") {
                EXPECT_EQ(::mknod((root + name).c_str(), S_IFCHR, makedev(0, 0)), 0);
            } else {
                std::ofstream(root + name, std::ios::binary) << text;
            }
        }
        const std::filesystem::path top(root);
        for (const auto& entry : std::filesystem::recursive_directory_iterator(top)) touch(entry.path());
        touch(top);
        const auto id = std::move(draft).commit(store::LayerInfo{.description = description});
        EXPECT_TRUE(id);
        return *id;
    }

    static void touch(const std::filesystem::path& path) {
        const timespec times[2] = {{.tv_sec = 1'700'000'100, .tv_nsec = 5}, {.tv_sec = 1'700'000'100, .tv_nsec = 5}};
        ::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW);
    }

    Packer packer() {
        return Packer(
            *store_,
            [this](store::LayerId id, VertexProgress&, const Stop&) -> Result<> {
                materialized_.push_back(id);
                return fail(Code::unavailable, Blame::world, "nothing can be unpacked here");
            },
            [this](const store::LazyLayer& lazy, const Stop&) -> Result<std::unique_ptr<ByteSource>> {
                fetched_.push_back(lazy.reference);
                return std::make_unique<StringSource>(remote_[lazy.blob.digest]);
            },
            2);
    }

    // A base with a shell-like file and a link, and a layer that changes and removes.
    ImageResult two_layers() {
        ImageResult image;
        image.chain.layers = {
            make_layer({{"bin/tool", "#!tool\n"}, {"etc/os", "one"}, {"link", "-> bin/tool"}}, "base"),
            make_layer({{"etc/os", "(whiteout)"}, {"new/file", std::string(300'000, 'x')}}, "second")};
        image.config.platform = oci::host_platform();
        image.config.config.env = {"PATH=/bin"};
        image.config.config.cmd = {"/bin/tool"};
        image.config.history = {{.created_by = "ADD base"},
                                {.created_by = "ENV x", .empty_layer = true},
                                {.created_by = "RUN change"},
                                {.created_by = "CMD tool", .empty_layer = true}};
        return image;
    }

    static sys::Captured run(std::vector<std::string> args) {
        sys::SpawnSpec spec;
        spec.program = sys::find_program(args[0]).value();
        spec.args = std::move(args);
        auto captured = sys::run_captured(std::move(spec), "", 1 << 20, Stop());
        EXPECT_TRUE(captured);
        return std::move(*captured);
    }
    static bool installed(const char* program) { return sys::find_program(program).has_value(); }

    SystemClock clock_;
    NullProgress sink_;
    VertexProgress progress_{sink_, Digest(), clock_};
    Stop stop_;
    sys::TempDir temp_;
    std::unique_ptr<store::Store> store_;
    std::vector<store::LayerId> materialized_;
    std::vector<std::string> fetched_;
    std::map<Digest, std::string> remote_;
};

}  // namespace cooper::exporter
