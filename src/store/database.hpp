// Database: a thin wrapper of one SQLite connection (WAL, shared with other processes). Statements are
// prepared once per SQL text. Any thread; calls take turns. Waits for other processes up to 10 s.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

struct sqlite3;
struct sqlite3_stmt;

namespace cooper::store {

using Value = std::variant<std::nullptr_t, std::int64_t, std::string>;

// One row of an answer; valid only inside the callback.
class Row {
public:
    explicit Row(sqlite3_stmt* statement) : statement_(statement) {}
    [[nodiscard]] std::int64_t integer(int column) const;
    [[nodiscard]] std::string text(int column) const;
    [[nodiscard]] bool is_null(int column) const;

private:
    sqlite3_stmt* statement_;
};
using OnRow = std::function<void(const Row&)>;

class Database {
public:
    // Creates the file when missing. A file that is no database is data_loss.
    static Result<std::unique_ptr<Database>> open(const std::string& host_path);
    ~Database();
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;

    // Several statements without parameters.
    Result<> execute(const char* sql);
    // One prepared statement; sql must be a string literal (its address is the cache's key).
    Result<> run(const char* sql, std::span<const Value> values, const OnRow& on_row);
    Result<> run(const char* sql, std::initializer_list<Value> values);
    Result<std::int64_t> insert(const char* sql, std::initializer_list<Value> values);  // the new row id
    [[nodiscard]] std::int64_t changes() const;

    // All of body or nothing. Takes the write lock first, so that what body reads stays true. Nested
    // calls join the outer transaction.
    Result<> transaction(const std::function<Result<>()>& body);

private:
    Database() = default;
    Result<sqlite3_stmt*> prepare(const char* sql);
    Error failure(std::string_view what) const;

    mutable std::recursive_mutex mutex_;  // held for a statement or a transaction
    sqlite3* handle_ = nullptr;
    std::unordered_map<const char*, sqlite3_stmt*> statements_;
    int depth_ = 0;
};

}  // namespace cooper::store
