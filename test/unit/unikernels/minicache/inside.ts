/** Runs inside of the namespace that minicache.test.ts made. Each file tests one side of the cache. */
import test from 'tape';
import './serving.ts';
import './caching.ts';
import './origins.ts';
import './live.ts';
import './pressure.ts';
import './memory.ts';
import './playout.ts';
import './disk.ts';

/* Connections that a test left open would keep the process; the pause is for tape's last lines. */
let failed = false;
test.onFailure(() => (failed = true));
test.onFinish(() => setTimeout(() => process.exit(failed ? 1 : 0), 300));
