/** Runs inside of the namespace that minicache.test.ts made. Each file tests one side of the cache. */
import './serving.ts';
import './caching.ts';
import './origins.ts';
import './pressure.ts';
