#include "attest/packages.hpp"

#include "attest/sbom.hpp"
#include "codec/sha256.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace cooper::attest {
namespace {

using nlohmann::json;

const OsRelease kDebian{"debian", "12"};

TEST(Packages, OsRelease) {
    const OsRelease os = parse_os_release("NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID='3.19.1'\nX\n");
    EXPECT_EQ(os.id, "alpine");
    EXPECT_EQ(os.version, "3.19.1");
}

TEST(Packages, Dpkg) {
    const auto found = parse_dpkg(
        "Package: curl\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:7.88-1+b2\nDescription: x\n y\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: last\nStatus: hold ok installed\n",
        kDebian);
    ASSERT_EQ(found.size(), 2U);
    EXPECT_EQ(purl_of(found[0]), "pkg:deb/debian/curl@1:7.88-1%2Bb2?arch=amd64&distro=debian-12");
    EXPECT_EQ(found[1].name, "last");
}

TEST(Packages, Apk) {
    const auto found =
        parse_apk("C:Q1x\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\nF:lib\nR:x\n\nP:zlib\nV:1.3\n", {"alpine", "3.19"});
    ASSERT_EQ(found.size(), 2U);
    EXPECT_EQ(purl_of(found[0]), "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.19");
    EXPECT_EQ(found[0].license, "MIT");
}

TEST(Packages, Python) {
    const auto found = parse_python(
        "Metadata-Version: 2.1\nName: Foo_Bar\nVersion: 1.0\nLicense: UNKNOWN\n"
        "Classifier: License :: OSI Approved :: MIT License\n\nName: not-this\n");
    ASSERT_TRUE(found);
    EXPECT_EQ(purl_of(*found), "pkg:pypi/foo-bar@1.0");
    EXPECT_EQ(found->license, "MIT License");
    EXPECT_FALSE(parse_python("just text\n"));
}

TEST(Packages, Npm) {
    const auto found = parse_npm(R"({"name":"@a/b","version":"1.2.3","license":{"type":"ISC"}})");
    ASSERT_TRUE(found);
    EXPECT_EQ(purl_of(*found), "pkg:npm/%40a/b@1.2.3");
    EXPECT_EQ(found->license, "ISC");
    EXPECT_FALSE(parse_npm("[]"));
    EXPECT_FALSE(parse_npm(R"({"name":1,"version":"1"})"));
    EXPECT_FALSE(parse_npm(std::string(100'000, '[')));
}

TEST(Packages, Gem) {
    const auto found = parse_gem("Gem::Specification.new do |s|\n  s.licenses = [\"MIT\".freeze]\n",
                                 "net-http-persistent-4.0.2-x86_64-linux.gemspec");
    ASSERT_TRUE(found);
    EXPECT_EQ(purl_of(*found), "pkg:gem/net-http-persistent@4.0.2");
    EXPECT_EQ(found->license, "MIT");
    EXPECT_FALSE(parse_gem("", "noversion.gemspec"));
}

TEST(Packages, GoModulesAndReplacements) {
    const auto found = parse_go_modules(
        "path\tcmd/x\nmod\texample.com/x\t(devel)\t\ndep\tgithub.com/a/b\tv1.2.3\th1:x=\n"
        "dep\tgithub.com/old/c\tv1.0.0\n=>\tgithub.com/new/c\tv1.0.1\th1:y=\nbuild\t-compiler=gc\n");
    ASSERT_EQ(found.size(), 3U);
    EXPECT_EQ(purl_of(found[0]), "pkg:golang/example.com/x");
    EXPECT_EQ(purl_of(found[1]), "pkg:golang/github.com/a/b@v1.2.3");
    EXPECT_EQ(purl_of(found[2]), "pkg:golang/github.com/new/c@v1.0.1");
}

// One entry for each text tag, and the data.
std::string rpm_header(const std::vector<std::pair<std::uint32_t, std::string>>& texts) {
    const auto be32 = [](std::uint32_t value) {
        std::string out;
        for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> static_cast<unsigned>(shift));
        return out;
    };
    std::string index;
    std::string data;
    for (const auto& [tag, text] : texts) {
        index += be32(tag) + be32(6) + be32(static_cast<std::uint32_t>(data.size())) + be32(1);
        data += text + '\0';
    }
    return be32(static_cast<std::uint32_t>(texts.size())) + be32(static_cast<std::uint32_t>(data.size())) + index +
           data;
}

TEST(Packages, RpmHeader) {
    const std::string blob =
        rpm_header({{1000, "bash"}, {1001, "5.2"}, {1002, "3.fc39"}, {1014, "GPL-3.0-or-later"}, {1022, "x86_64"}});
    const auto found = parse_rpm_header(blob, {"fedora", "39"});
    ASSERT_TRUE(found);
    EXPECT_EQ(purl_of(*found), "pkg:rpm/fedora/bash@5.2-3.fc39?arch=x86_64&distro=fedora-39");
    for (std::size_t size = 0; size < blob.size(); ++size) {
        EXPECT_FALSE(parse_rpm_header(std::string_view(blob).substr(0, size), {"fedora", "39"})) << size;
    }
    EXPECT_FALSE(parse_rpm_header(rpm_header({{1000, "gpg-pubkey"}, {1001, "1"}}), {}));
}

TEST(Packages, RpmNdb) {
    const std::string blob = rpm_header({{1000, "bash"}, {1001, "5.2"}});
    const auto le32 = [](std::uint32_t value) {
        std::string out;
        for (unsigned shift = 0; shift < 32; shift += 8) out += static_cast<char>(value >> shift);
        return out;
    };
    std::string file = "RpmP" + le32(0) + le32(1) + le32(1) + std::string(16, '\0');
    file += "Slot" + le32(7) + le32(256) + le32(4);
    file.resize(4096, '\0');
    file += "BlbS" + le32(7) + le32(1) + le32(static_cast<std::uint32_t>(blob.size())) + blob;
    EXPECT_EQ(parse_rpm_ndb(file, {}).size(), 1U);
    file.resize(file.size() - 1);
    EXPECT_TRUE(parse_rpm_ndb(file, {}).empty());
    EXPECT_TRUE(parse_rpm_ndb("RpmP", {}).empty());
    EXPECT_TRUE(parse_rpm_sqlite("SQLite format 3", {}).empty());
}

std::string number_of(std::uint32_t value, std::size_t size, bool big) {
    std::string out;
    for (std::size_t i = 0; i < size; ++i) out += static_cast<char>(value >> (8 * (big ? size - 1 - i : i)));
    return out;
}

// One header in a page, and one in two overflow pages behind it.
std::string hash_table(const std::string& small, const std::string& large, bool big) {
    constexpr std::size_t kPage = 512;
    const auto put = [](std::string& page, std::size_t at, const std::string& bytes) {
        page.replace(at, bytes.size(), bytes);
    };
    const auto page_of = [&](std::uint32_t number, char type, std::uint32_t next, std::uint32_t items,
                             std::uint32_t here) {
        std::string page(kPage, '\0');
        put(page, 8, number_of(number, 4, big));
        put(page, 16, number_of(next, 4, big));
        put(page, 20, number_of(items, 2, big) + number_of(here, 2, big));
        page[25] = type;
        return page;
    };
    std::string file(kPage, '\0');
    put(file, 12, number_of(0x061561, 4, big) + number_of(9, 4, big) + number_of(kPage, 4, big));
    file[25] = 8;
    const std::vector<std::string> items = {"\1key1", "\1" + small, "\1key2",
                                            std::string("\3\0\0\0", 4) + number_of(2, 4, big) +
                                                number_of(static_cast<std::uint32_t>(large.size()), 4, big)};
    std::string table = page_of(1, 13, 0, 4, 0);
    std::size_t end = kPage;
    for (std::size_t i = 0; i < items.size(); ++i) {
        end -= items[i].size();
        put(table, end, items[i]);
        put(table, 26 + 2 * i, number_of(static_cast<std::uint32_t>(end), 2, big));
    }
    file += table;
    std::string first = page_of(2, 7, 3, 1, kPage - 26);
    put(first, 26, large.substr(0, kPage - 26));
    const std::string rest = large.substr(kPage - 26);
    std::string second = page_of(3, 7, 0, 1, static_cast<std::uint32_t>(rest.size()));
    put(second, 26, rest);
    return file + first + second;
}

TEST(Packages, RpmHashTableOfEitherByteOrder) {
    const std::string small = rpm_header({{1000, "bash"}, {1001, "4.2"}, {1022, "x86_64"}});
    const std::string large = rpm_header({{5000, std::string(600, 'x')}, {1000, "glibc"}, {1001, "2.17"}});
    for (const bool big : {false, true}) {
        std::string file = hash_table(small, large, big);
        const auto found = parse_rpm_bdb(file, {"centos", "7"});
        ASSERT_EQ(found.size(), 2U);
        EXPECT_EQ(purl_of(found[0]), "pkg:rpm/centos/bash@4.2?arch=x86_64&distro=centos-7");
        EXPECT_EQ(found[1].name, "glibc");
        // A chain that leads to itself.
        file.replace(2 * 512 + 16, 4, number_of(2, 4, big));
        EXPECT_EQ(parse_rpm_bdb(file, {}).size(), 1U);
        for (std::size_t size = 0; size < file.size(); size += 7) {
            EXPECT_LE(parse_rpm_bdb(std::string_view(file).substr(0, size), {}).size(), 1U);
        }
    }
    EXPECT_TRUE(parse_rpm_bdb(std::string(4096, '\0'), {}).empty());
}

TEST(Packages, DotnetComposerAndRust) {
    const auto nuget = parse_dotnet_deps(
        R"({"libraries":{"App/1.0.0":{"type":"project"},"Newtonsoft.Json/13.0.3":{"type":"package"},"Broken":{"type":"package"},)"
        R"("runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/8.0.1":{"type":"runtimepack"}}})");
    ASSERT_EQ(nuget.size(), 2U);
    EXPECT_EQ(purl_of(nuget[0]), "pkg:nuget/Newtonsoft.Json@13.0.3");
    EXPECT_EQ(purl_of(nuget[1]), "pkg:nuget/Microsoft.NETCore.App.Runtime.linux-x64@8.0.1");
    const std::string list =
        R"([{"name":"monolog/monolog","version":"3.5.0","license":["MIT","ISC"]},{"version":"1"},7])";
    for (const std::string& text : {list, "{\"packages\":" + list + "}"}) {
        const auto found = parse_composer(text);
        ASSERT_EQ(found.size(), 1U);
        EXPECT_EQ(purl_of(found[0]), "pkg:composer/monolog/monolog@3.5.0");
        EXPECT_EQ(found[0].license, "MIT OR ISC");
    }
    const auto crates = parse_rust_crates(
        R"({"packages":[{"name":"cc","version":"1.0","kind":"build"},{"name":"app","version":"0.1.0","root":true,"source":"local"}]})");
    ASSERT_EQ(crates.size(), 1U);
    EXPECT_EQ(purl_of(crates[0]), "pkg:cargo/app@0.1.0");
    for (const char* bad : {"", "[]", "{", "{\"packages\":{}}", "{\"libraries\":[]}", "[[]]"}) {
        EXPECT_TRUE(parse_dotnet_deps(bad).empty() && parse_composer(bad).empty() && parse_rust_crates(bad).empty());
    }
}

TEST(Packages, DebianCopyright) {
    EXPECT_EQ(parse_debian_copyright("Format: https://x\n\nFiles: *\nLicense: MIT\n text\n\nFiles: a\nLicense: GPL-2\n"
                                     "\nLicense: MIT\n"),
              "GPL-2 AND MIT");
    EXPECT_EQ(parse_debian_copyright("This is free software\nLicense: none of that\n"), "");
}

TEST(Sbom, Licenses) {
    for (const char* good : {"MIT", "MIT AND Apache-2.0", "(MIT OR ISC) AND Zlib"})
        EXPECT_TRUE(is_license_expression(good)) << good;
    for (const char* bad : {"", "MIT License", "MIT AND", "(MIT", "MIT)", "MIT ISC", "and", "GPL"})
        EXPECT_FALSE(is_license_expression(bad)) << bad;
}

SbomFacts some_facts() {
    SbomFacts facts;
    facts.name = "example.com/x:1";
    facts.layers = {{codec::sha256_of("layer"), "RUN apt-get install curl"}};
    Package package = parse_dpkg("Package: curl\nStatus: install ok installed\nVersion: 1\n", kDebian).front();
    package.path = "var/lib/dpkg/status";
    package.layer = 0;
    package.license = "made up";
    facts.inventory.packages = {package};
    facts.inventory.evidence = {{package.path, 0, "00", codec::sha256_of("x")}};
    return facts;
}

TEST(Sbom, SpdxSaysWhereEachPackageIsFrom) {
    const SbomFacts facts = some_facts();
    const auto document = json::parse(make_sbom(facts, SbomFormat::spdx));
    EXPECT_EQ(document["spdxVersion"], "SPDX-2.3");
    ASSERT_EQ(document["packages"].size(), 2U);
    const auto& package = document["packages"][1];
    EXPECT_EQ(package["externalRefs"][0]["referenceLocator"], "pkg:deb/debian/curl@1?distro=debian-12");
    EXPECT_EQ(package["comment"],
              "layerID: " + facts.layers[0].digest.to_string() + "\ninstruction: RUN apt-get install curl");
    EXPECT_EQ(package["licenseDeclared"], document["hasExtractedLicensingInfos"][0]["licenseId"]);
    EXPECT_EQ(document["hasExtractedLicensingInfos"][0]["extractedText"], "made up");
    std::set<std::string> ids{"SPDXRef-DOCUMENT"};
    for (const char* list : {"packages", "files"}) {
        for (const auto& one : document[list]) EXPECT_TRUE(ids.insert(one["SPDXID"]).second);
    }
    for (const auto& one : document["relationships"]) {
        EXPECT_TRUE(ids.contains(one["spdxElementId"]));
        EXPECT_TRUE(ids.contains(one["relatedSpdxElement"]));
    }
    EXPECT_EQ(make_sbom(facts, SbomFormat::spdx), make_sbom(some_facts(), SbomFormat::spdx));
}

TEST(Sbom, CycloneDx) {
    const auto document = json::parse(make_sbom(some_facts(), SbomFormat::cyclonedx));
    EXPECT_EQ(document["specVersion"], "1.5");
    EXPECT_EQ(document["components"][0]["purl"], "pkg:deb/debian/curl@1?distro=debian-12");
    EXPECT_EQ(document["components"][0]["licenses"][0]["license"]["name"], "made up");
    EXPECT_EQ(document["serialNumber"].get<std::string>().size(), 45U);
}

}  // namespace
}  // namespace cooper::attest
