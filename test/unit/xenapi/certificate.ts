/** A self-signed certificate for localhost and its key, known to everyone: for tests on the loopback interface only. */
export const cert = `-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUVSIpsYa6qa5xFBlUh4T6ilaOTmQwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMDE0MjU1NloYDzIxMjYxMDI3
MTQyNTU2WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQmO7y1hWz6PfHi8g0Sh+3FefVXaGmQUSEoV7Z+9wacm+7aA6gnRT/z
zz+c2xq9D8pvivHQIjFoG1bRpbpgi21ko28wbTAdBgNVHQ4EFgQUfZnQKnRdf66J
nvfaDqdEuQSdg1gwHwYDVR0jBBgwFoAUfZnQKnRdf66JnvfaDqdEuQSdg1gwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgfUCapZPFq/Wo68dHxnIb5ULVwoIicT4T2Hr6skHd66wCIQCU
r8Qqo/hUBfP8nyQ9JywPJh5YG+kkUTa6Tyn+gdf9WQ==
-----END CERTIFICATE-----
`;
export const key = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQFo6NQ3scRqwavOK
z93FP8w7MZtfPs76Q0IVrX81j/KhRANCAAQmO7y1hWz6PfHi8g0Sh+3FefVXaGmQ
USEoV7Z+9wacm+7aA6gnRT/zzz+c2xq9D8pvivHQIjFoG1bRpbpgi21k
-----END PRIVATE KEY-----
`;
