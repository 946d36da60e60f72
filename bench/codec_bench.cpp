// codec_bench DIR: layer tars of DIR against tar, gzip and sha256sum, best of three, page cache warm.
#include "codec/pipeline.hpp"
#include "codec/sha256.hpp"
#include "layer/apply.hpp"
#include "layer/diff.hpp"
#include "sys/temp_dir.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fmt/core.h>

namespace {

using namespace cooper;  // NOLINT: a program of its own

template <class F>
double best_of_three(F run) {
    double best = 1e9;
    for (int i = 0; i < 3; ++i) {
        const auto start = std::chrono::steady_clock::now();
        run();
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
}

double shell(const std::string& command) {
    return best_of_three([&] {
        if (std::system(command.c_str()) != 0) fmt::print("failed: {}\n", command);
    });
}

class CountingSink final : public ByteSink {
public:
    Result<> write(std::span<const std::byte> data) override { return size += data.size(), Result<>(); }
    std::uint64_t size = 0;
};

Result<codec::BlobFacts> pack(const sys::RootedDir& dir, ByteSink& out, codec::Compression kind, int level) {
    auto pipeline = TRY(codec::BlobPipeline::create(out, kind, level, 2));
    codec::TarWriter tar(*pipeline);
    TRY(layer::write_layer_tar(dir, tar, {}, Stop()));
    TRY(tar.finish());
    return pipeline->finish();
}

Result<> run(const std::string& path) {
    const auto dir = TRY(sys::RootedDir::open_host(path));
    auto temp = TRY(sys::TempDir::create("/tmp", "codec-bench"));
    const std::string tar_file = temp.path() + "/plain.tar";
    const double tar_sha = shell(fmt::format("tar -C {} -c . | sha256sum >/dev/null", path));
    const double gzip =
        shell(fmt::format("tar -C {} -c . >{} && gzip -6 <{} >{}.gz", path, tar_file, tar_file, tar_file));
    const auto gz = TRY(temp.dir().stat("plain.tar.gz", sys::Follow::no));

    const auto measure = [&](const char* name, codec::Compression kind, int level) {
        codec::BlobFacts facts;
        const double seconds = best_of_three([&] {
            CountingSink out;
            if (auto packed = pack(dir, out, kind, level)) facts = *packed;
        });
        fmt::print("{:14} {:6.2f} s  {:.2f} x tar|sha256sum  {:.3f} x gzip -6 time  {:.3f} x gzip -6 size\n", name,
                   seconds, seconds / tar_sha, seconds / gzip,
                   static_cast<double>(facts.size) / static_cast<double>(gz.st_size));
    };
    fmt::print("tar|sha256sum  {:6.2f} s\ngzip -6        {:6.2f} s  {} bytes\n", tar_sha, gzip, gz.st_size);
    measure("uncompressed", codec::Compression::none, codec::kDefaultLevel);
    for (const int level : {4, 5, 6}) measure(fmt::format("gzip {}", level).c_str(), codec::Compression::gzip, level);
    measure("zstd", codec::Compression::zstd, codec::kDefaultLevel);

    const double tar_x =
        shell(fmt::format("rm -rf {0}/x && mkdir {0}/x && tar -C {0}/x -xf {0}/plain.tar", temp.path()));
    const double apply = best_of_three([&] {
        static_cast<void>(temp.dir().remove_all("y"));
        static_cast<void>(temp.dir().make_dirs("y", 0755));
        auto root = temp.dir().open_dir("y");
        auto file = temp.dir().open("plain.tar", O_RDONLY, sys::Follow::no, 0);
        if (!root || !file) return;
        sys::FdSource source(std::move(*file));
        const auto applied = layer::apply_layer_tar(source, *root, {}, Stop());
        if (!applied) fmt::print("{}\n", applied.error().to_string());
    });
    fmt::print("tar x          {:6.2f} s\napply          {:6.2f} s  {:.2f} x tar x (both with removal)\n", tar_x, apply,
               apply / tar_x);
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return fmt::print(stderr, "usage: codec_bench DIR\n"), 2;
    const auto done = run(argv[1]);
    if (!done) fmt::print(stderr, "{}\n", done.error().to_string());
    return done ? 0 : 1;
}
