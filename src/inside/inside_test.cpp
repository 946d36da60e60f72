#include "codec/compression.hpp"
#include "codec/sha256.hpp"
#include "codec/tar.hpp"
#include "inside/blame.hpp"
#include "inside/compare.hpp"
#include "inside/layers_report.hpp"
#include "inside/shown.hpp"

#include <gtest/gtest.h>

namespace cooper::inside {
namespace {

using codec::TarType;

struct File {
    std::string name;
    std::string content;
    TarType type = TarType::file;
    std::uint32_t mode = 0644;
    std::uint32_t uid = 0;
};

std::string tar_of(const std::vector<File>& files) {
    StringSink sink;
    codec::TarWriter tar(sink);
    for (const auto& file : files) {
        codec::TarHeader header{.name = file.name, .type = file.type, .mode = file.mode, .uid = file.uid};
        const bool link = file.type == TarType::symlink || file.type == TarType::hard_link;
        if (link) header.linkname = file.content;
        if (file.type == TarType::file) header.size = file.content.size();
        EXPECT_TRUE(tar.write_header(header));
        if (file.type == TarType::file) {
            EXPECT_TRUE(tar.write_body(as_bytes(file.content)));
        }
    }
    EXPECT_TRUE(tar.finish());
    return sink.text;
}

Image image_of(const std::vector<std::vector<File>>& layers) {
    Image image{.name = "test"};
    for (const auto& files : layers) {
        const std::string tar = tar_of(files);
        image.layers.push_back({.diff_id = codec::sha256_of(tar),
                                .blob = {},
                                .packed_size = {},
                                .open = [tar](const Stop&) -> Result<std::unique_ptr<ByteSource>> {
                                    return std::make_unique<StringSource>(tar);
                                }});
        image.config.history.push_back({.created = {}, .created_by = "step"});
    }
    return image;
}

std::unique_ptr<LayersReport> report_of(const Image& image) {
    auto report = report_layers(image, 100, 2, Stop{});
    EXPECT_TRUE(report) << report.error().to_string();
    return std::move(*report);
}

std::vector<std::string> waste_of(const std::vector<std::vector<File>>& layers) {
    const Image image = image_of(layers);
    std::vector<std::string> out;
    const auto report = report_of(image);
    for (const auto& waste : report->waste) {
        out.push_back(fmt::format("{} {} {} by {}", waste.path, waste.bytes, waste.why, waste.hidden_by + 1));
    }
    EXPECT_EQ(report->stored_bytes, report->seen_bytes + report->wasted_bytes);
    return out;
}

using Lines = std::vector<std::string>;

TEST(Listing, EntriesOfAllLayersTogetherAreBounded) {
    // A name that is repeated is an entry each time; a layer that is there twice is read once.
    const Image image = image_of({{{"a", ""}, {"a", ""}}, {{"b", ""}, {".wh.c", ""}}, {{"a", ""}, {"a", ""}}});
    EXPECT_TRUE(read_layers({&image}, {.max_entries = 4}, 1, Stop{}));
    const auto refused = read_layers({&image}, {.max_entries = 3}, 1, Stop{});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Code::resource_exhausted);
    EXPECT_NE(refused.error().to_string().find("layer 2 of test"), std::string::npos) << refused.error().to_string();
    EXPECT_NE(refused.error().to_string().find("more than 3 entries"), std::string::npos);
}

TEST(Waste, OfEachKind) {
    EXPECT_EQ(waste_of({{{"a", "12345"}}, {{"a", "1234"}}}), Lines{"/a 5 replaced by 2"});
    EXPECT_EQ(waste_of({{{"a", "12345"}}, {{"a", "12345", TarType::file, 0600}}}),
              Lines{"/a 5 mode 0644 → 0600 changed by 2"});
    EXPECT_EQ(waste_of({{{"a", "12345"}}, {{"a", "12345", TarType::file, 0644, 7}}}), Lines{"/a 5 owner changed by 2"});
    EXPECT_EQ(waste_of({{{"a", "12345"}}, {{"a", "12345"}}}), Lines{"/a 5 stored again by 2"});
    EXPECT_EQ(waste_of({{{"d/a", "12345"}}, {{"d/.wh.a", ""}}}), Lines{"/d/a 5 removed by 2"});
    EXPECT_EQ(waste_of({{{"d/a", "12345"}}, {{".wh.d", ""}}}), Lines{"/d/a 5 removed by 2"});
    EXPECT_EQ(waste_of({{{"d/a", "12345"}}, {{"d", "x"}}}), Lines{"/d/a 5 removed by 2"});
    EXPECT_EQ(waste_of({{{"a", "12345"}}, {{"a/b", "x"}}}), Lines{"/a 5 removed by 2"});
    EXPECT_EQ(waste_of({{{"a", "12345"}, {"a", "1"}}}), Lines{"/a 5 replaced by 1"});
    EXPECT_EQ(waste_of({{{"a", "12345"}}, {{"b", "1"}}}), Lines{});
}

TEST(Waste, WhiteoutsHideOnlyWhatIsBelow) {
    EXPECT_EQ(waste_of({{{"d/old", "123"}}, {{"d/new", "1"}, {"d/.wh..wh..opq", ""}}}), Lines{"/d/old 3 removed by 2"});
    EXPECT_EQ(waste_of({{{"a", "123"}}, {{"a", "1"}, {".wh.a", ""}}}), Lines{"/a 3 removed by 2"});
}

TEST(Waste, HardLinksAreOneFile) {
    const std::vector<File> linked = {{"b", "a", TarType::hard_link}, {"a", "12345"}};
    EXPECT_EQ(waste_of({linked, {{".wh.a", ""}}}), Lines{});
    EXPECT_EQ(waste_of({linked, {{".wh.a", ""}}, {{".wh.b", ""}}}), Lines{"/b 5 removed by 3"});
}

TEST(Layers, NamesAreCleanedAndBounded) {
    const Image same = image_of({{{"./d//a/", "", TarType::directory}, {"/d/./a/f", "1"}}});
    EXPECT_EQ(report_of(same)->largest.at(0).path, "/d/a/f");
    for (const std::string& name : {std::string("../x"), std::string("a/../../x"), std::string(300, 'n')}) {
        const Image hostile = image_of({{{name, "1"}}});
        const auto report = report_layers(hostile, 1, 1, Stop{});
        ASSERT_FALSE(report) << name;
        EXPECT_EQ(report.error().code(), Code::invalid_argument);
        EXPECT_NE(report.error().to_string().find("layer 1 of test"), std::string::npos) << report.error().to_string();
    }
}

TEST(Layers, EntriesThatReplaceEachOtherForeverAreRefused) {
    // Every other entry is a file in the place of a directory of many names.
    std::vector<File> files;
    for (int i = 0; i < 3000; ++i) files.push_back({fmt::format("d/{}", i), ""});
    for (int i = 0; i < 3000; ++i) {
        files.push_back({"d", ""});
        files.push_back({"d/1", ""});
    }
    const Image image = image_of({files});
    const auto report = report_layers(image, 1, 1, Stop{});
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code(), Code::resource_exhausted);
}

TEST(Layers, BrokenLayersAreNamed) {
    Image image = image_of({{{"a", "1"}}, {{"b", "2"}}});
    image.layers[1].open = [](const Stop&) -> Result<std::unique_ptr<ByteSource>> {
        return std::make_unique<StringSource>(std::string(700, 'x'));
    };
    const auto report = report_layers(image, 1, 2, Stop{});
    ASSERT_FALSE(report);
    EXPECT_NE(report.error().to_string().find("layer 2 of test"), std::string::npos);
}

TEST(Layers, TheSameTextInWhateverOrder) {
    std::vector<std::vector<File>> layers;
    for (int layer = 0; layer < 8; ++layer) {
        layers.emplace_back();
        for (int file = 0; file < 50; ++file) {
            layers.back().push_back(
                {fmt::format("d{}/f{}", file % 7, (file * 31 + layer) % 90), std::string(file % 5, 'x')});
        }
    }
    const Image image = image_of(layers);
    const std::string first = to_json(*report_of(image));
    for (int i = 0; i < 10; ++i) EXPECT_EQ(to_json(*report_of(image)), first);
}

TEST(Diff, HardLinksAreComparedAsTheFilesTheyName) {
    const Image a = image_of({{{"a", "1"}, {"b", "a", TarType::hard_link}}});
    const Image b = image_of({{{"a", "1"}, {"b", "1"}}});
    const auto differences = compare(a, b, 1, Stop{});
    ASSERT_TRUE(differences);
    EXPECT_FALSE(differences->any()) << to_text(*differences, Times::show);
}

TEST(Diff, KindsAndLinks) {
    const Image a = image_of({{{"a", "1"}, {"l", "x", TarType::symlink, 0777}, {"d/f", "1"}}});
    const Image b = image_of({{{"a", "", TarType::directory, 0755}, {"l", "y", TarType::symlink, 0777}}});
    const auto differences = compare(a, b, 1, Stop{});
    ASSERT_TRUE(differences);
    EXPECT_EQ(
        to_text(*differences, Times::ignore),
        "C /a  file → directory, mode 0644 → 0755\nD /d  directory 0755 0:0\nD /d/f  file 0644 0:0 1B\n"
        "C /l  target x → y\n\n0 added, 2 removed, 2 changed; 2B → 0B (-2B)\n1 and 1 layers, of which the first 0 "
        "are the same\n");
}

TEST(Blame, FollowsLinksOfDirectoriesAndStopsInLoops) {
    const Image image =
        image_of({{{"usr/bin/sh", "1"}, {"bin", "usr/bin", TarType::symlink}, {"loop", "loop", TarType::symlink}}});
    const auto found = blame(image, "/bin/sh", 1, Stop{});
    ASSERT_TRUE(found);
    EXPECT_EQ(found->path, "/usr/bin/sh");
    EXPECT_FALSE(blame(image, "/loop/x", 1, Stop{}));
    EXPECT_FALSE(blame(image, "/bin/none", 1, Stop{}));
}

TEST(Instructions, AsInTheDockerfile) {
    EXPECT_EQ(instruction_text("RUN /bin/sh -c apt-get update # buildkit"), "RUN apt-get update");
    EXPECT_EQ(instruction_text("RUN |1 A=b c /bin/sh -c make # buildkit"), "RUN make");
    EXPECT_EQ(instruction_text("/bin/sh -c #(nop) ADD file:1 in / "), "ADD file:1 in /");
    EXPECT_EQ(instruction_text("/bin/sh -c make"), "RUN make");
    EXPECT_EQ(instruction_text("COPY a b # buildkit"), "COPY a b");
    EXPECT_EQ(instruction_text("|1 A=b /bin/sh -c make"), "RUN make");
    EXPECT_EQ(instruction_text(""), "");
}

TEST(Shown, HostileBytes) {
    EXPECT_EQ(shown("a\x1b[2J\n\x7f"), "a\\x1b[2J\\x0a\\x7f");
    EXPECT_EQ(shown("\xc3\xa4\xff\xc3"), "\xc3\xa4\\xff\\xc3");
    EXPECT_EQ(shown("\xe2\x80\xae"
                    "abc"),
              "\\xe2\\x80\\xae"
              "abc");
    EXPECT_EQ(shown("\xc0\x80\xed\xa0\x80"), "\\xc0\\x80\\xed\\xa0\\x80");
    EXPECT_EQ(shown("abcdefghijkl", 8), "abcde…");
}

}  // namespace
}  // namespace cooper::inside
