#include "codec/compression.hpp"
#include "codec/sha256.hpp"
#include "http/fake_server.hpp"
#include "source/http.hpp"
#include "sys/temp_dir.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

namespace cooper::source {
namespace {

class FakeSession final : public session::Session {
public:
    Result<std::optional<session::Secret>> find_secret(const std::string& id, Stop /*stop*/) override {
        const auto found = secrets.find(id);
        if (found == secrets.end()) return std::optional<session::Secret>();
        return std::optional(session::Secret(found->second));
    }
    Result<std::unique_ptr<session::SshSocket>> open_ssh(const std::string& /*id*/,
                                                         const session::SocketOwner& /*owner*/,
                                                         Stop /*stop*/) override {
        return std::unique_ptr<session::SshSocket>();
    }
    std::map<std::string, std::string> secrets;
};

class HttpSourceTest : public ::testing::Test {
protected:
    void SetUp() override {
        dir_ = std::move(*sys::TempDir::create(::testing::TempDir(), "httpsource"));
        store_ = std::move(*store::Store::open(dir_.path() + "/state", clock_));
        source_ = std::make_unique<HttpSource>(*store_, client_, 1u << 20);
        server_ = std::make_unique<http::FakeServer>([this](const http::FakeRequest& request) {
            http::FakeResponse response{.status = status_, .body = body_};
            response.headers.add("ETag", etag_);
            response.headers.add("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
            if (!disposition_.empty()) response.headers.add("Content-Disposition", disposition_);
            if (!encoding_.empty()) response.headers.add("Content-Encoding", encoding_);
            if (!etag_.empty() && request.headers.find("If-None-Match") == etag_) {
                response.status = 304;
                response.body.clear();
            }
            return response;
        });
    }
    Result<HttpPin> pin(const HttpRequest& request) { return source_->pin(request, session_, nullptr, stop_); }
    Result<store::Chain> fetch(const HttpRequest& request, const HttpPin& pinned) {
        return source_->fetch(request, pinned, session_, nullptr, stop_);
    }
    std::string path_of(const store::Chain& chain, const std::string& name) {
        return store_->layer_path(chain.layers.at(0)) + "/" + name;
    }
    [[nodiscard]] HttpRequest request(const std::string& path) const {
        return HttpRequest{.url = server_->url() + path};
    }
    SystemClock clock_;
    sys::TempDir dir_;
    std::unique_ptr<store::Store> store_;
    http::Client client_{http::ClientOptions{}};
    std::unique_ptr<HttpSource> source_;
    FakeSession session_;
    std::string body_ = "content";
    std::string etag_ = "\"1\"";
    std::string disposition_;
    std::string encoding_;
    int status_ = 200;
    Stop stop_;
    std::unique_ptr<http::FakeServer> server_;
};

TEST_F(HttpSourceTest, DownloadsOnceAndAsksWhetherItChanged) {
    const HttpRequest asked = request("/dir/file.txt?x=1");
    const auto pinned = pin(asked);
    ASSERT_TRUE(pinned) << pinned.error().to_string();
    EXPECT_EQ(pinned->digest, codec::sha256_of("content"));
    EXPECT_EQ(pinned->filename, "file.txt");
    const std::string json = R"({"Filename":"file.txt","Perm":0,"UID":0,"GID":0,"Checksum":")" +
                             pinned->digest.to_string() + R"(","LastModTime":"Sun, 06 Nov 1994 08:49:37 GMT"})";
    EXPECT_EQ(pinned->key, codec::sha256_of(json).to_string());
    const auto chain = fetch(asked, *pinned);
    ASSERT_TRUE(chain);
    struct stat info{};
    ASSERT_EQ(stat(path_of(*chain, "file.txt").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777u, 0600u);
    EXPECT_EQ(info.st_mtime, 784111777);
    EXPECT_EQ(server_->count("GET", "/dir/file.txt?x=1"), 1u);

    const auto again = pin(asked);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->key, pinned->key);
    EXPECT_EQ(fetch(asked, *again)->layers, chain->layers);
    EXPECT_EQ(server_->count("GET", "/dir/file.txt?x=1"), 1u);
    EXPECT_EQ(server_->count("HEAD", "/dir/file.txt?x=1"), 1u);

    body_ = "new";
    etag_ = "\"2\"";
    const auto changed = pin(asked);
    ASSERT_TRUE(changed);
    EXPECT_EQ(changed->digest, codec::sha256_of("new"));
    EXPECT_NE(changed->key, pinned->key);
}

TEST_F(HttpSourceTest, AChecksumNeedsNoRequestForTheKey) {
    HttpRequest asked = request("/file");
    asked.checksum = codec::sha256_of("content");
    asked.perm = 0755;
    asked.uid = 7;
    asked.gid = 8;
    const auto pinned = pin(asked);
    ASSERT_TRUE(pinned);
    EXPECT_TRUE(server_->requests().empty());
    const auto chain = fetch(asked, *pinned);
    ASSERT_TRUE(chain) << chain.error().to_string();
    struct stat info{};
    ASSERT_EQ(stat(path_of(*chain, "file").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777u, 0755u);
    EXPECT_EQ(info.st_uid, 7u);
    EXPECT_EQ(info.st_gid, 8u);
    const auto again = pin(asked);
    ASSERT_TRUE(fetch(asked, *again));
    EXPECT_EQ(server_->requests().size(), 1u);

    asked.checksum = codec::sha256_of("other");
    const auto wrong = fetch(asked, *pin(asked));
    ASSERT_FALSE(wrong);
    EXPECT_NE(wrong.error().to_string().find("digest mismatch"), std::string::npos);
}

TEST_F(HttpSourceTest, UndoesContentEncoding) {
    StringSink packed;
    auto compressor = codec::make_compressor(packed, codec::Compression::gzip, codec::kDefaultLevel, 1);
    ASSERT_TRUE((*compressor)->write(as_bytes("plain text")));
    ASSERT_TRUE((*compressor)->finish());
    body_ = packed.text;
    encoding_ = "gzip";
    EXPECT_EQ(pin(request("/x"))->digest, codec::sha256_of("plain text"));
    EXPECT_EQ(source_->peek(request("/x"), session_, 5, stop_).value(), "plain");
}

TEST_F(HttpSourceTest, NamesStayInTheirDirectory) {
    const auto name = [&](const std::string& path, const std::string& disposition) {
        http::Headers headers;
        if (!disposition.empty()) headers.add("Content-Disposition", disposition);
        return http_file_name(request(path), &headers);
    };
    EXPECT_EQ(name("/a/b", ""), "b");
    EXPECT_EQ(name("/a/", ""), "download");
    EXPECT_EQ(name("/", ""), "download");
    EXPECT_EQ(name("/a", "attachment; filename=\"x y.txt\""), "x y.txt");
    EXPECT_EQ(name("/a", "attachment; filename=\"../../etc/passwd\""), "passwd");
    EXPECT_EQ(name("/a", "attachment; filename=.."), "a");
    EXPECT_EQ(name("/%2e%2e%2fetc%2f..", ""), "download");
}

TEST_F(HttpSourceTest, SendsSecrets) {
    const std::string host = "127.0.0.1";
    session_.secrets["HTTP_AUTH_HEADER_" + host] = "Basic abc";
    ASSERT_TRUE(pin(request("/1")));
    EXPECT_EQ(server_->requests().back().headers.find("Authorization"), "Basic abc");
    session_.secrets["HTTP_AUTH_TOKEN_" + host] = "tok";
    ASSERT_TRUE(pin(request("/2")));
    EXPECT_EQ(server_->requests().back().headers.find("Authorization"), "Bearer tok");
    HttpRequest asked = request("/3");
    asked.auth_header_secret = "mine";
    EXPECT_FALSE(pin(asked));
    session_.secrets["mine"] = "X y";
    ASSERT_TRUE(pin(asked));
    EXPECT_EQ(server_->requests().back().headers.find("Authorization"), "X y");
}

TEST_F(HttpSourceTest, ErrorsAndLimits) {
    status_ = 404;
    const auto missing = pin(request("/none"));
    ASSERT_FALSE(missing);
    EXPECT_NE(missing.error().to_string().find("invalid response status 404"), std::string::npos);
    status_ = 200;
    body_ = std::string(2u << 20, 'x');
    EXPECT_EQ(pin(request("/big")).error().code(), Code::resource_exhausted);
    EXPECT_FALSE(http_request("file:///etc/passwd", {}));
    EXPECT_FALSE(http_request("http://h/x", {{"http.perm", "rwx"}}));
    EXPECT_EQ(
        http_request("http://h/x", {{"http.perm", "0755"}, {"http.header.Accept", "a"}, {"http.header.X", "y"}})->perm,
        0755u);
}

}  // namespace
}  // namespace cooper::source
